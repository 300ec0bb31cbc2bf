/** What `ipMasq` of bridge and ptp writes, asked for directly. */
import assert from 'node:assert/strict'
import { collectMasquerade, type MasqueradeBackend, missingMasquerade, setUpMasquerade, tearDownMasquerade } from '../../src/chained/masquerade.ts'
import { openNetns, within } from '../../src/sys/netns.ts'
import { type IpPrefix, parsePrefix } from '../../src/wire/ip-address.ts'
import { bridged } from './bridged.ts'
import { ADDRESSES, type Host, hostTest } from './host.ts'

const prefix = (text: string) => parsePrefix(text) as IpPrefix
const owner = (ifname: string, containerID = 'c1') => ({ network: 'net', containerID, ifname })
const FIRST = [prefix('10.1.2.2/24'), prefix('fd00:1::2/64')]
const SECOND = [prefix('10.1.2.3/24')]

/** @returns What masquerades, by both backends. */
function masquerading(host: Host): readonly string[] {
  const table = host.run(['nft', 'list', 'table', 'inet', 'cni_plugins_masquerade']).stdout
  return `${host.exec(['iptables-save', '-t', 'nat'])}${host.exec(['ip6tables-save', '-t', 'nat'])}${table}`
    .split('\n')
    .filter((line) => /CNI-|masquerade comment/.test(line))
}

for (const backend of ['iptables', 'nftables'] as const satisfies readonly MasqueradeBackend[]) {
  hostTest(`containers leave with the host's address, and interfaces of one container do not undo each other's rules (${backend})`, async (host) => {
    const { container } = bridged(host, 'c1', 2)
    using netns = openNetns(`/proc/${host.machine.pid}/ns/net`)
    const inHost = <T extends readonly string[] | undefined>(act: () => T) => within(netns, () => act() as T extends PromiseLike<unknown> ? never : T)
    const missing = (ifname: string, addresses: readonly IpPrefix[]) => inHost(() => missingMasquerade({ owner: owner(ifname), addresses, backend }))
    const tearDown = (ifname: string, addresses: readonly IpPrefix[]) => inHost(() => void tearDownMasquerade(owner(ifname), addresses))
    inHost(() => void setUpMasquerade({ owner: owner('eth0'), addresses: FIRST, backend }))
    for (const family of [4, 6] as const) {
      await host.outside.talker.serve({ protocol: 'tcp', address: ADDRESSES[family].far, port: 9000 }, 'far')
      assert.equal((await container.talker.ask({ protocol: 'tcp', address: ADDRESSES[family].far, port: 9000 })).peer, ADDRESSES[family].host)
    }
    const alone = masquerading(host)
    inHost(() => void setUpMasquerade({ owner: owner('eth0'), addresses: FIRST, backend }))
    assert.deepEqual(masquerading(host), alone, 'twice is once')
    inHost(() => void setUpMasquerade({ owner: owner('eth1'), addresses: SECOND, backend }))
    assert.deepEqual([missing('eth0', FIRST), missing('eth1', SECOND)], [[], []])
    tearDown('eth1', SECOND)
    assert.deepEqual(masquerading(host), alone)
    inHost(() => void collectMasquerade('net', [owner('eth0')]))
    assert.deepEqual(masquerading(host), alone)
    assert.equal(missing('eth1', SECOND).length, 1)
    tearDown('eth0', FIRST)
    assert.deepEqual(masquerading(host), [])
    for (const [ifname, addresses] of [['eth0', FIRST] as const, ['eth1', SECOND] as const])
      inHost(() => void setUpMasquerade({ owner: owner(ifname), addresses, backend }))
    inHost(() => void collectMasquerade('net', [owner('eth0', 'c2')]))
    assert.deepEqual(masquerading(host), [])
    inHost(() => void setUpMasquerade({ owner: owner('eth0'), addresses: FIRST, backend }))
    tearDown('eth0', [])
    assert.deepEqual(masquerading(host), [])
  })
}
