import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseConfig } from '../cni/request.ts'
import { TsnetError } from '../error.ts'
import { parseBridgeConfig } from './bridge-config.ts'
import { gatewayPrefixes, withGateways } from './bridge-gateway.ts'

const parse = (more: object, args = '') =>
  parseBridgeConfig(parseConfig(JSON.stringify({ cniVersion: '1.0.0', name: 'net', type: 'bridge', ...more }), 'ADD'), args)
const isConfigError = (error: unknown) => error instanceof TsnetError && error.cniCode === 7
const result = (
  ips: readonly { readonly address: string; readonly gateway?: string }[],
  routes: readonly { readonly dst: string; readonly gw?: string }[] = [],
) => ({
  interfaces: [],
  ips,
  routes,
  dns: {},
})

test('parseBridgeConfig() has the defaults of the reference plugin', () => {
  assert.deepEqual(parse({}), {
    bridge: 'cni0',
    isGateway: false,
    isDefaultGateway: false,
    forceAddress: false,
    hairpin: false,
    promiscuous: false,
    isolated: false,
    vlan: undefined,
    trunk: [],
    preserveDefaultVlan: false,
    spoofCheck: false,
    detectDuplicates: false,
    linkDown: false,
    mac: undefined,
  })
})

test('parseBridgeConfig() reads keys in any case, and takes a default gateway for a gateway', () => {
  const config = parse({ BRIDGE: 'br0', IsDefaultGateWay: true, ipmasq: true, ipMasqBackend: 'nftables', MTU: 9000, dns: { search: [] } })
  assert.deepEqual([config.bridge, config.isGateway, config.masquerade, config.mtu, config.dns], ['br0', true, { backend: 'nftables' }, 9000, {}])
})

test('parseBridgeConfig() takes the MAC address of runtimeConfig before args.cni before CNI_ARGS', () => {
  const sources = { args: { cni: { mac: '02:00:00:00:00:02' } }, runtimeConfig: { mac: '02:00:00:00:00:03' } }
  assert.equal(parse(sources, 'MAC=02:00:00:00:00:01').mac, '02:00:00:00:00:03')
  assert.equal(parse({ args: sources.args }, 'MAC=02:00:00:00:00:01').mac, '02:00:00:00:00:02')
  assert.equal(parse({}, 'MAC=02:00:00:00:00:01').mac, '02:00:00:00:00:01')
})

for (const [why, keys] of [
  ['a VLAN too high', { vlan: 4095 }],
  ['a negative VLAN', { vlan: -1 }],
  ['a trunk without its end', { vlanTrunk: [{ minID: 5 }] }],
  ['a trunk that ends before it begins', { vlanTrunk: [{ minID: 5, maxID: 4 }] }],
  ['VLAN 0 in a trunk', { vlanTrunk: [{ id: 0 }] }],
  ['hairpin mode on a promiscuous bridge', { hairpinMode: true, promiscMode: true }],
  ['addresses for an interface that stays down', { disableContainerInterface: true, ipam: { type: 'host-local' } }],
  ['a backend that does not exist', { ipMasqBackend: 'ebtables' }],
  ['a path as a bridge', { bridge: '../all' }],
  ['a bridge that is a parameter of all', { bridge: '..' }],
  ['an MTU that is no number', { mtu: '1500' }],
] as const) {
  test(`parseBridgeConfig() refuses ${why}`, () => assert.throws(() => parse(keys), isConfigError))
}

test('parseBridgeConfig() gathers a trunk into ranges, each VLAN once', () => {
  const entry = fc
    .tuple(fc.integer({ min: 1, max: 4094 }), fc.integer({ min: 0, max: 30 }))
    .map(([minID, more]) => ({ minID, maxID: Math.min(minID + more, 4094) }))
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 8 }), (vlanTrunk) => {
      const idsOf = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, i) => first + i)
      const { trunk } = parse({ vlanTrunk })
      const wanted = [...new Set(vlanTrunk.flatMap(({ minID, maxID }) => idsOf(minID, maxID)))].sort((a, b) => a - b)
      assert.deepEqual(
        trunk.flatMap(({ first, last }) => idsOf(first, last)),
        wanted,
      )
      for (const [i, { first }] of trunk.entries()) assert.ok(i === 0 || first > (trunk[i - 1]?.last ?? 0) + 1)
    }),
  )
})

test('withGateways() names the first address of a subnet where IPAM named none, and a default route for each family', () => {
  const addressed = withGateways(result([{ address: '10.50.0.7/24' }, { address: 'fd00::7/64', gateway: 'fd00::ff' }]), {
    isGateway: true,
    isDefaultGateway: true,
  })
  assert.deepEqual(
    addressed.ips.map(({ gateway }) => gateway),
    ['10.50.0.1', 'fd00::ff'],
  )
  assert.deepEqual(addressed.routes, [
    { dst: '0.0.0.0/0', gw: '10.50.0.1' },
    { dst: '::/0', gw: 'fd00::ff' },
  ])
})

test('withGateways() adds no default route beside one that IPAM gave, with or without a gateway', () => {
  for (const route of [{ dst: '0.0.0.0/0' }, { dst: '0.0.0.0/0', gw: '10.50.0.9' }]) {
    assert.deepEqual(withGateways(result([{ address: '10.50.0.7/24' }], [route]), { isGateway: true, isDefaultGateway: true }).routes, [route])
  }
  assert.deepEqual(
    withGateways(result([{ address: '10.50.0.7/24' }]), { isGateway: false, isDefaultGateway: false }),
    result([{ address: '10.50.0.7/24' }]),
  )
})

test('gatewayPrefixes() gives each gateway once, with its subnet', () => {
  const ips = [
    { address: '10.50.0.7/24', gateway: '10.50.0.1' },
    { address: '10.50.0.8/24', gateway: '10.50.0.1' },
  ]
  assert.deepEqual(
    gatewayPrefixes(result(ips)).map(({ prefixLength }) => prefixLength),
    [24],
  )
})
