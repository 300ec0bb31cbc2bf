import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseConfig, parseEnvironment } from '../cni/request.ts'
import { TsnetError } from '../error.ts'
import type { PluginRequest } from './plugin.ts'
import { staticAddresses } from './static.ts'

const IPAM = {
  type: 'static',
  addresses: [
    { address: '10.10.0.1/24', gateway: '10.10.0.254' },
    { Address: '3ffe:ffff:0:01ff::1/64', gateway: '3ffe:ffff:0::1' },
  ],
  routes: [{ dst: '0.0.0.0/0' }, { dst: '192.168.0.0/16', gw: '10.10.5.1' }],
  dns: { nameservers: ['8.8.8.8'], domain: 'example.com', search: ['example.com'] },
}

function requestOf(conf: object, args = ''): PluginRequest {
  const env = { CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'c1', CNI_NETNS: '/run/netns/c1', CNI_IFNAME: 'eth0', CNI_ARGS: args }
  const input = JSON.stringify({ cniVersion: '1.0.0', name: 'net', ipam: IPAM, ...conf })
  return { environment: parseEnvironment(env), config: parseConfig(input, 'ADD'), input, context: {} as PluginRequest['context'] }
}

const addressesOf = (conf: object, args?: string) =>
  staticAddresses.add(requestOf(conf, args)).ips.map(({ address, gateway }) => (gateway === undefined ? address : `${address} ${gateway}`))
const refusal = (act: () => unknown) => {
  try {
    act()
  } catch (error) {
    assert.ok(error instanceof TsnetError)
    return [error.cniCode, error.message]
  }
  return assert.fail('it is accepted')
}

test('static: ADD answers what is configured, routes and dns included', () => {
  assert.deepEqual(staticAddresses.add(requestOf({})), {
    interfaces: [],
    ips: [
      { address: '10.10.0.1/24', gateway: '10.10.0.254' },
      { address: '3ffe:ffff:0:1ff::1/64', gateway: '3ffe:ffff::1' },
    ],
    routes: IPAM.routes,
    dns: IPAM.dns,
  })
})

test('static: CNI_ARGS adds addresses, with the gateways of their subnets; args.cni takes the place of all, and the capability of that', () => {
  const one = { ipam: { addresses: [{ address: '10.10.0.1/24' }] } }
  const args = 'IP=10.1.0.5/24, 10.2.0.5/24;GATEWAY=10.2.0.1,10.9.0.1'
  assert.deepEqual(addressesOf(one, args), ['10.10.0.1/24', '10.1.0.5/24', '10.2.0.5/24 10.2.0.1'])
  const argument = { ...one, args: { cni: { ips: ['10.3.0.5/24'] } } }
  assert.deepEqual(addressesOf(argument, args), ['10.3.0.5/24'])
  assert.deepEqual(addressesOf({ ...argument, runtimeConfig: { ips: ['10.4.0.5/24', 'fd00::5/64'] } }, args), ['10.4.0.5/24', 'fd00::5/64'])
  assert.deepEqual(addressesOf({ ipam: {} }), [])
})

test('static: refusals have code 7 and the words of the reference plugin', () => {
  const refused = (conf: object, args?: string) => refusal(() => addressesOf(conf, args))
  assert.deepEqual(refused({ ipam: null }), [7, "IPAM config missing 'ipam' key"])
  assert.deepEqual(refused({ ipam: { addresses: [{ address: '10.0.0.1' }] } }), [
    7,
    "the 'address' field is expected to be in CIDR notation, got: '10.0.0.1'",
  ])
  assert.deepEqual(refused({}, 'IP=10.0.0.1'), [7, "the 'ip' field is expected to be in CIDR notation, got: '10.0.0.1'"])
  assert.deepEqual(refused({ runtimeConfig: { ips: ['10.0.0.1'] } }), [
    7,
    "an entry in the 'ips' field is expected to be in CIDR notation, got: '10.0.0.1'",
  ])
  assert.deepEqual(refused({}, 'GATEWAY=x'), [7, 'invalid gateway address: "x"'])
  assert.equal(refused({ ipam: { addresses: [{ address: '10.0.0.1/24', gateway: 'x' }] } })[0], 7)
  assert.deepEqual(refused({ cniVersion: '0.2.0' }, 'IP=10.0.0.1/24'), [7, 'CNI version 0.2.0 does not support more than 1 address per family'])
})

test('static: CHECK wants every address, with its length and its gateway, in prevResult', () => {
  const check = (ips: readonly object[]) => staticAddresses.check(requestOf({ prevResult: { cniVersion: '1.0.0', ips } }))
  const other = { address: '192.0.2.1/24' }
  const [v4, v6] = [IPAM.addresses[0] as object, { address: '3ffe:ffff:0:1ff::1/64', gateway: '3ffe:ffff::1' }]
  check([other, v4, v6])
  const failed = (ips: readonly object[]) => refusal(() => check(ips))
  assert.deepEqual(failed([v6]), [104, 'static: Failed to match addr 10.10.0.1/24 on interface eth0'])
  assert.equal(failed([{ ...v4, address: '10.10.0.1/16' }, v6])[0], 104)
  assert.equal(failed([{ ...v4, gateway: '10.10.0.253' }, v6])[0], 104)
  assert.deepEqual(
    refusal(() => staticAddresses.check(requestOf({}))),
    [7, 'Required prevResult missing'],
  )
})
