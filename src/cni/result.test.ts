import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { TsnetError } from '../error.ts'
import { formatResult, parseResult, type Result } from './result.ts'
import { SUPPORTED_VERSIONS } from './version.ts'

const full: Result = {
  interfaces: [
    { name: 'tsn0', mac: '02:00:00:00:00:01', mtu: 1500 },
    { name: 'eth0', mac: '02:00:00:00:00:02', mtu: 1500, sandbox: '/ns', socketPath: '/s', pciID: '0:0' },
  ],
  ips: [
    { address: 'fd00::2/64', gateway: 'fd00::1', interface: 1 },
    { address: '10.0.0.2/24', gateway: '10.0.0.1', interface: 1 },
    { address: '10.0.0.3/24', interface: 1 },
  ],
  routes: [{ dst: '0.0.0.0/0', gw: '10.0.0.1', mtu: 1400, advmss: 1360, priority: 5, table: 0, scope: 0 }, { dst: '::/0' }],
  dns: { nameservers: ['10.0.0.1'], domain: 'x', search: ['y'], options: ['z'] },
}
const empty: Result = { interfaces: [], ips: [], routes: [], dns: {} }
const bare: Result = { ...empty, ips: [{ address: '10.0.0.2/24' }] }

for (const version of ['1.0.0', '1.1.0'] as const) {
  test(`formatResult() in ${version} keeps everything`, () => {
    assert.deepEqual(formatResult(full, version), { cniVersion: version, ...full })
    assert.deepEqual(formatResult(empty, version), { cniVersion: version })
    assert.deepEqual(parseResult(formatResult(full, version), version), full)
  })
}

for (const version of ['0.3.0', '0.3.1', '0.4.0'] as const) {
  test(`formatResult() in ${version} adds the IP version, drops the newer members of interfaces, keeps those of routes`, () => {
    assert.deepEqual(formatResult(full, version), {
      cniVersion: version,
      interfaces: [
        { name: 'tsn0', mac: '02:00:00:00:00:01' },
        { name: 'eth0', mac: '02:00:00:00:00:02', sandbox: '/ns' },
      ],
      ips: [
        { version: '6', address: 'fd00::2/64', gateway: 'fd00::1', interface: 1 },
        { version: '4', address: '10.0.0.2/24', gateway: '10.0.0.1', interface: 1 },
        { version: '4', address: '10.0.0.3/24', interface: 1 },
      ],
      routes: full.routes,
      dns: full.dns,
    })
    assert.deepEqual(formatResult(empty, version), { cniVersion: version, dns: {} })
    const old = { ...full, interfaces: full.interfaces.map(({ mtu: _m, socketPath: _s, pciID: _p, ...rest }) => rest) }
    assert.deepEqual(parseResult(formatResult(full, version), version), old)
  })
}

for (const version of ['0.1.0', '0.2.0'] as const) {
  test(`formatResult() in ${version} has the first address of each family with its routes`, () => {
    assert.deepEqual(formatResult(full, version), {
      cniVersion: version,
      ip4: { ip: '10.0.0.2/24', gateway: '10.0.0.1', routes: [{ dst: '0.0.0.0/0', gw: '10.0.0.1' }] },
      ip6: { ip: 'fd00::2/64', gateway: 'fd00::1', routes: [{ dst: '::/0' }] },
      dns: full.dns,
    })
    const one = { ...bare, routes: [{ dst: '::/0' }] }
    assert.deepEqual(formatResult(one, version), { cniVersion: version, ip4: { ip: '10.0.0.2/24' }, dns: {} })
    assert.throws(() => formatResult(empty, version), { cniCode: 7, message: 'cannot convert: no valid IP addresses' })
  })

  test(`parseResult() from ${version} gives IPv4 first and no interfaces`, () => {
    assert.deepEqual(parseResult(formatResult(full, version), version), {
      interfaces: [],
      ips: [
        { address: '10.0.0.2/24', gateway: '10.0.0.1' },
        { address: 'fd00::2/64', gateway: 'fd00::1' },
      ],
      routes: [{ dst: '0.0.0.0/0', gw: '10.0.0.1' }, { dst: '::/0' }],
      dns: full.dns,
    })
    assert.deepEqual(parseResult({}, version), empty)
  })
}

for (const version of SUPPORTED_VERSIONS) {
  test(`formatResult() in ${version} ${version === '1.1.0' ? 'says' : 'omits what it cannot say:'} that a route is in another table`, () => {
    const main = { dst: '10.9.0.0/16', gw: '10.0.0.1' }
    const other = { dst: '0.0.0.0/0', gw: '10.0.0.1', table: 1000 }
    const routes = parseResult(formatResult({ ...bare, routes: [main, other] }, version), version).routes
    assert.deepEqual(routes, version === '1.1.0' ? [main, other] : [main])
  })
}

test("parseResult() takes a version of the same shape, absent as the configuration's, and no other", () => {
  const shapes = { '0.1.0': 1, '0.2.0': 1, '0.3.0': 2, '0.3.1': 2, '0.4.0': 2, '1.0.0': 3, '1.1.0': 3 }
  for (const own of SUPPORTED_VERSIONS) {
    for (const version of SUPPORTED_VERSIONS) {
      if (shapes[own] === shapes[version]) assert.deepEqual(parseResult({ cniVersion: own }, version), empty)
      else assert.throws(() => parseResult({ cniVersion: own }, version), { cniCode: 1 })
    }
  }
  assert.deepEqual(parseResult({ cniVersion: '' }, '1.1.0'), empty)
  assert.deepEqual(parseResult(null, '1.1.0'), empty)
  assert.throws(() => parseResult({ cniVersion: '9.9.9' }, '1.1.0'), { cniCode: 1 })
})

test('parseResult() reads keys in any case, empty addresses as absent, indexes that point nowhere', () => {
  const json = {
    Interfaces: [{ Name: 'eth0', sandbox: '' }],
    IPs: [{ Address: '10.0.0.2/24', gateway: '', interface: -1 }],
    Routes: [{ Dst: '::/0', GW: '' }],
    dns: { nameservers: [] },
  }
  assert.deepEqual(parseResult(json, '1.1.0'), {
    interfaces: [{ name: 'eth0' }],
    ips: [{ address: '10.0.0.2/24', interface: -1 }],
    routes: [{ dst: '::/0' }],
    dns: {},
  })
})

test('parseResult() refuses bad members with code 7 and their place, other documents with 6', () => {
  const rows: [object, string][] = [
    [{ interfaces: {} }, 'result.interfaces": an object'],
    [{ interfaces: ['x'] }, 'result.interfaces[0]": "x"'],
    [{ interfaces: [{ name: 1 }] }, 'result.interfaces[0].name": 1'],
    [{ interfaces: [{ mtu: -1 }] }, 'result.interfaces[0].mtu": -1'],
    [{ ips: [{}] }, 'result.ips[0].address": ""'],
    [{ ips: [{ address: '10.0.0.2' }] }, 'result.ips[0].address": "10.0.0.2"'],
    [{ ips: [{ address: '10.0.0.2/24', gateway: 'x' }] }, 'result.ips[0].gateway": "x"'],
    [{ ips: [{ address: '10.0.0.2/24', interface: '0' }] }, 'result.ips[0].interface": "0"'],
    [{ routes: [{ dst: 'default' }] }, 'result.routes[0].dst": "default"'],
    [{ routes: [{ dst: '::/0', gw: 'x' }] }, 'result.routes[0].gw": "x"'],
    [{ routes: [{ dst: '::/0', table: 2 ** 32 }] }, 'result.routes[0].table": 4294967296'],
    [{ dns: 'x' }, 'result.dns": "x"'],
    [{ dns: { nameservers: [1] } }, 'dns.nameservers[0]": 1'],
    [{ cniVersion: 1 }, 'result.cniVersion": 1'],
  ]
  for (const [json, text] of rows) {
    assert.throws(
      () => parseResult(json, '1.1.0'),
      (error) => error instanceof TsnetError && error.cniCode === 7 && error.message.startsWith(`Invalid "${text} is not `),
      text,
    )
  }
  for (const json of [[], 'x', 1, true]) assert.throws(() => parseResult(json, '1.1.0'), { cniCode: 6 })
  assert.throws(() => parseResult({ ip4: { ip: 'x' } }, '0.2.0'), {
    cniCode: 7,
    message: 'Invalid "result.ip4.ip": "x" is not an address with a prefix length',
  })
})

test('parseResult() and formatResult() are inverse within a shape, and never fail with another error', () => {
  const address = fc.oneof(
    fc.ipV4().map((ip) => `${ip}/24`),
    fc.ipV6().map((ip) => `${ip}/64`),
  )
  const json = fc.record({
    ips: fc.array(fc.record({ address, interface: fc.nat(9) })),
    routes: fc.array(fc.record({ dst: address, priority: fc.nat() })),
  })
  fc.assert(
    fc.property(
      fc.oneof(json, fc.jsonValue(), fc.dictionary(fc.constantFrom('ips', 'ip4', 'dns', 'interfaces'), fc.jsonValue())),
      fc.constantFrom(...SUPPORTED_VERSIONS),
      (value, version) => {
        try {
          const result = parseResult(value, version)
          const text = JSON.stringify(formatResult(result, version))
          assert.deepEqual(JSON.parse(JSON.stringify(formatResult(parseResult(JSON.parse(text), version), version))), JSON.parse(text))
        } catch (error) {
          assert.ok(error instanceof TsnetError && [1, 6, 7].includes(error.cniCode), String(error))
        }
      },
    ),
  )
})
