import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '../cni/json.ts'
import { parseConfig, parseEnvironment } from '../cni/request.ts'
import type { Result } from '../cni/result.ts'
import { parseMtu, parseWantedMac } from './device-config.ts'
import { NOTHING, resultOf } from './device-result.ts'
import type { PluginRequest } from './plugin.ts'

/** What the functions under test look at; the rest of a request is the kernel's business. */
function request(conf: JsonObject, args = ''): PluginRequest {
  const input = JSON.stringify({ cniVersion: '1.1.0', name: 'net', type: 'macvlan', ...conf })
  const environment = parseEnvironment({ CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'c1', CNI_NETNS: '/run/netns/c1', CNI_IFNAME: 'eth0', CNI_ARGS: args })
  return { environment, config: parseConfig(input, 'ADD'), input, context: {} as PluginRequest['context'] }
}

const LEASED: Result = {
  interfaces: [],
  ips: [{ address: '10.0.0.2/24', interface: 7 }],
  routes: [{ dst: '0.0.0.0/0' }],
  dns: { nameservers: ['10.0.0.1'] },
}
const OWN = { name: 'eth0', sandbox: '/run/netns/c1' }

test("resultOf() gives every address the interface's index, behind what stood before it in the chain", () => {
  const previous: Result = { ...NOTHING, interfaces: [{ name: 'br0' }, { name: 'v0' }], ips: [{ address: '10.9.0.1/24', interface: 0 }] }
  const { interfaces, ips, routes } = resultOf(request({}), { leased: LEASED, own: OWN, previous })
  assert.deepEqual(interfaces, [{ name: 'br0' }, { name: 'v0' }, OWN])
  assert.deepEqual(ips, [
    { address: '10.9.0.1/24', interface: 0 },
    { address: '10.0.0.2/24', interface: 2 },
  ])
  assert.deepEqual(routes, [{ dst: '0.0.0.0/0' }])
})

test('resultOf() names no interface for the addresses of a device that has none', () => {
  const { interfaces, ips } = resultOf(request({}), { leased: LEASED, own: undefined, previous: undefined })
  assert.deepEqual([interfaces, ips], [[], [{ address: '10.0.0.2/24' }]])
})

test("resultOf() takes the configuration's dns, else IPAM's, else that of the plugin before", () => {
  const previous = { ...NOTHING, dns: { domain: 'before.test' } }
  const dnsOf = (conf: JsonObject, leased: Result) => resultOf(request(conf), { leased, own: OWN, previous }).dns
  assert.deepEqual(dnsOf({ dns: { search: ['a.test'] } }, LEASED), { search: ['a.test'] })
  assert.deepEqual(dnsOf({ dns: {} }, LEASED), { nameservers: ['10.0.0.1'] })
  assert.deepEqual(dnsOf({}, NOTHING), { domain: 'before.test' })
})

test('parseWantedMac() hears runtimeConfig before args.cni, CNI_ARGS and the configuration', () => {
  const mac = (last: number) => `02:00:00:00:00:0${last}`
  const all = { mac: mac(4), args: { cni: { mac: mac(2) } }, runtimeConfig: { mac: mac(1) } }
  assert.equal(parseWantedMac(request(all, `MAC=${mac(3)}`)), mac(1))
  assert.equal(parseWantedMac(request({ ...all, runtimeConfig: {} }, `MAC=${mac(3)}`)), mac(2))
  assert.equal(parseWantedMac(request({ mac: mac(4) }, `MAC=${mac(3)}`)), mac(3))
  assert.equal(parseWantedMac(request({ mac: mac(4) })), mac(4))
  assert.equal(parseWantedMac(request({})), undefined)
  assert.throws(() => parseWantedMac(request({ mac: 'ff:ff:ff:ff:ff:ff' })), /unicast/)
})

test('parseMtu() takes 0 and absence as the choice of the kernel', () => {
  assert.deepEqual([parseMtu(request({})), parseMtu(request({ mtu: 0 })), parseMtu(request({ MTU: 1300 }))], [0, 0, 1300])
  for (const mtu of [-1, 1.5, 65_536, '1300']) assert.throws(() => parseMtu(request({ mtu })), { code: 'TSNET_CONFIG', cniCode: 7 })
})
