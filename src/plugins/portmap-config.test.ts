import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseConfig } from '../cni/request.ts'
import { TsnetError } from '../error.ts'
import { parseFirewallConfig } from './firewall-config.ts'
import { parsePortmapConfig } from './portmap-config.ts'

const config = (more: object) => parseConfig(JSON.stringify({ cniVersion: '1.0.0', name: 'net', type: 'portmap', ...more }), 'ADD')
const portmap = (more: object) => parsePortmapConfig(config(more))
const ports = (...portMappings: readonly object[]) => ({ runtimeConfig: { portMappings } })
const code = (wanted: number) => (error: unknown) => error instanceof TsnetError && error.cniCode === wanted

test('parsePortmapConfig() has the reference plugin’s defaults, and reads keys in any case', () => {
  assert.deepEqual(portmap({}), { mappings: [], options: { snat: true, masqAll: false, mark: { bit: 13 }, conditions: { 4: [], 6: [] } } })
  const { mappings, options } = portmap({
    SNAT: false,
    MarkMasqBit: 5,
    ...{ RuntimeConfig: { PortMappings: [{ HostPort: 80, ContainerPort: 81, Protocol: 'UDP' }] } },
  })
  assert.deepEqual([options.snat, options.mark, mappings], [false, { bit: 5 }, [{ hostPort: 80, containerPort: 81, count: 1, protocol: 'udp' }]])
})

test('parsePortmapConfig() refuses what cannot be, and what it would have to pass over', () => {
  const bad = [
    { markMasqBit: 32 },
    { markMasqBit: 1, externalSetMarkChain: 'X' },
    { externalSetMarkChain: 'A B' },
    { externalSetMarkChain: '-j' },
    { backend: 'nonsense' },
    { conditionsV4: ['-j', 'ACCEPT'] },
    { snat: 'yes' },
    ports({ hostPort: 0, containerPort: 80 }),
    ports({ containerPort: 80 }),
    ports({ hostPort: 80, containerPort: 80, protocol: 'tcp -j X' }),
  ]
  for (const more of bad) assert.throws(() => portmap(more), code(7), JSON.stringify(more))
  for (const more of [{ range: 2 }, { allow: ['10.0.0.0/8'] }])
    assert.throws(() => portmap(ports({ hostPort: 80, containerPort: 80, ...more })), code(2))
})

test('the backend of portmap is what its options are words of', () => {
  assert.equal(portmap({ conditionsV4: ['!', '-s', '10.0.0.0/8'] }).backend, 'iptables')
  assert.equal(portmap({ conditionsV6: ['ip6', 'saddr', 'fd00::/8'] }).backend, 'nftables')
  assert.equal(portmap({ externalSetMarkChain: 'X' }).backend, 'iptables')
  for (const more of [{ conditionsV4: ['-i', 'x'] }, { markMasqBit: 3 }, { conditionsV4: ['ip', 'saddr', '10.0.0.1'], conditionsV6: ['-i', 'x'] }])
    assert.throws(() => portmap({ backend: 'conditionsV6' in more ? undefined : 'nftables', ...more }), code(7), JSON.stringify(more))
})

test('parseFirewallConfig() refuses names that a rule or an option could be made of', () => {
  const previous = (name: string) => ({ interfaces: [{ name }], ips: [], routes: [], dns: {} })
  const firewall = (more: object, bridge = 'br0') => parseFirewallConfig(config({ backend: 'iptables', ...more }), previous(bridge))
  assert.deepEqual(firewall({ IngressPolicy: 'isolated', iptablesAdminChainName: 'MY-ADMIN' }), {
    backend: 'iptables',
    adminChain: 'MY-ADMIN',
    zone: 'trusted',
    isolation: { bridge: 'br0', policy: 'isolated' },
  })
  assert.deepEqual(firewall({ ingressPolicy: 'open' }), { backend: 'iptables', adminChain: 'CNI-ADMIN', zone: 'trusted' })
  for (const more of [
    { backend: 'nonsense' },
    { ingressPolicy: 'none' },
    { iptablesAdminChainName: 'A B' },
    { iptablesAdminChainName: '-F' },
    { firewalldZone: '-x' },
  ])
    assert.throws(() => firewall(more), code(7), JSON.stringify(more))
  for (const bridge of ['br+', '', '-i', 'br 0', 'a\n']) assert.throws(() => firewall({ ingressPolicy: 'same-bridge' }, bridge), code(7), bridge)
})
