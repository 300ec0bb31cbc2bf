/** A result that goes through a plugin of one version and is read by one of another: what is lost, for every pair of versions. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatResult, parseResult, type Result } from './result.ts'
import { type CniVersion, isAtLeast, SUPPORTED_VERSIONS } from './version.ts'

const RESULT: Result = {
  interfaces: [
    { name: 'br0', mac: '02:00:00:00:00:01', mtu: 1400 },
    { name: 'eth0', mac: '02:00:00:00:00:02', mtu: 1400, sandbox: '/ns', pciID: '0:0' },
  ],
  ips: [
    { address: 'fd00::2/64', gateway: 'fd00::1', interface: 1 },
    { address: '10.0.0.2/24', gateway: '10.0.0.1', interface: 1 },
    { address: '10.0.0.3/24', interface: 1 },
  ],
  routes: [
    { dst: '::/0', gw: 'fd00::1' },
    { dst: '0.0.0.0/0', gw: '10.0.0.1', mtu: 1300, priority: 7 },
    { dst: '10.9.0.0/16', table: 100 },
  ],
  dns: { nameservers: ['10.0.0.1'] },
}
const PLAIN_INTERFACES = [
  { name: 'br0', mac: '02:00:00:00:00:01' },
  { name: 'eth0', mac: '02:00:00:00:00:02', sandbox: '/ns' },
]
const MAIN_ROUTES = RESULT.routes.slice(0, 2)

/** What is still known after a version has told it. Routes of another table are unknown before 1.1.0. */
const KNOWN: Readonly<Record<CniVersion, Result>> = {
  '0.1.0': {
    interfaces: [],
    ips: [
      { address: '10.0.0.2/24', gateway: '10.0.0.1' },
      { address: 'fd00::2/64', gateway: 'fd00::1' },
    ],
    routes: [
      { dst: '0.0.0.0/0', gw: '10.0.0.1' },
      { dst: '::/0', gw: 'fd00::1' },
    ],
    dns: RESULT.dns,
  },
  get '0.2.0'() {
    return KNOWN['0.1.0']
  },
  '0.3.0': { ...RESULT, interfaces: PLAIN_INTERFACES, routes: MAIN_ROUTES },
  get '0.3.1'() {
    return KNOWN['0.3.0']
  },
  get '0.4.0'() {
    return KNOWN['0.3.0']
  },
  '1.0.0': { ...RESULT, routes: MAIN_ROUTES },
  '1.1.0': RESULT,
}

for (const from of SUPPORTED_VERSIONS) {
  for (const to of SUPPORTED_VERSIONS) {
    test(`a result of ${from} becomes one of ${to}, and loses what either has no word for`, () => {
      const read = parseResult(formatResult(RESULT, from), from)
      assert.deepEqual(read, KNOWN[from])
      const again = parseResult(formatResult(read, to), to)
      assert.deepEqual(again, isAtLeast(to, from) ? KNOWN[isAtLeast(from, '0.3.0') ? from : '0.1.0'] : KNOWN[to])
      assert.equal(formatResult(read, to)['cniVersion'], to)
    })
  }
}
