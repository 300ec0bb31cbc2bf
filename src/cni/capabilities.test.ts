import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { TsnetError } from '../error.ts'
import { formatAddress } from '../wire/ip-address.ts'
import { parseMac, requestedAddresses, requestedMac, requestedRanges } from './capabilities.ts'
import { parseCniArgs } from './cni-args.ts'

const addresses = (...sources: Parameters<typeof requestedAddresses>) =>
  requestedAddresses(...sources).map(
    ({ address, prefixLength }) => `${formatAddress(address)}${prefixLength === undefined ? '' : `/${prefixLength}`}`,
  )

test('requestedAddresses() joins the three lists and drops duplicates', () => {
  const sources = {
    cniArgs: parseCniArgs('IP=10.0.0.2/24,fd00::2'),
    args: { ips: ['10.0.0.3', '10.0.0.2'] },
    runtimeConfig: { IPs: ['fd00:0::2/64', '10.0.0.3', '10.0.0.4/16'] },
  }
  assert.deepEqual(addresses(sources), ['10.0.0.2/24', 'fd00::2/64', '10.0.0.3', '10.0.0.4/16'])
  assert.deepEqual(addresses({ args: {}, runtimeConfig: {} }), [])
  assert.deepEqual(addresses({ args: {}, runtimeConfig: { ips: ['0.0.0.2', '::2'] } }), ['0.0.0.2', '::2'])
})

test('requestedAddresses() refuses what is no address with code 7 and the source', () => {
  const rows: [Parameters<typeof requestedAddresses>[0], string][] = [
    [
      { args: {}, runtimeConfig: { ips: ['10.0.0.2', 'x'] } },
      'Invalid "runtimeConfig.ips[1]": "x" is not an IP address with or without a prefix length',
    ],
    [
      { args: {}, runtimeConfig: { ips: ['10.0.0.2/33'] } },
      'Invalid "runtimeConfig.ips[0]": "10.0.0.2/33" is not an IP address with or without a prefix length',
    ],
    [{ args: {}, runtimeConfig: { ips: '10.0.0.2' } }, 'Invalid "runtimeConfig.ips": "10.0.0.2" is not a list'],
    [{ args: { ips: [''] }, runtimeConfig: {} }, 'Invalid "args.cni.ips[0]": "" is not an IP address with or without a prefix length'],
    [
      { args: {}, runtimeConfig: {}, cniArgs: parseCniArgs('IP=10.0.0.2,') },
      'Invalid "CNI_ARGS IP": "" is not an IP address with or without a prefix length',
    ],
  ]
  for (const [sources, message] of rows) assert.throws(() => requestedAddresses(sources), { cniCode: 7, message })
})

test('requestedMac() prefers runtimeConfig to args.cni to CNI_ARGS', () => {
  const cniArgs = parseCniArgs('MAC=02:00:00:00:00:01')
  const args = { mac: '02:00:00:00:00:02' }
  const runtimeConfig = { Mac: '02-00-00-00-00-AF' }
  assert.equal(requestedMac({ cniArgs, args, runtimeConfig }), '02:00:00:00:00:af')
  assert.equal(requestedMac({ cniArgs, args, runtimeConfig: { mac: '' } }), '02:00:00:00:00:02')
  assert.equal(requestedMac({ cniArgs, args: {}, runtimeConfig: {} }), '02:00:00:00:00:01')
  assert.equal(requestedMac({ args: {}, runtimeConfig: {} }), undefined)
  assert.throws(() => requestedMac({ args: { mac: 'x' }, runtimeConfig: {} }), {
    cniCode: 7,
    message: 'Invalid "args.cni.mac": "x" is not a MAC address of 6 octets',
  })
})

test('parseMac() takes the spellings of Go and refuses what no interface may have', () => {
  assert.equal(parseMac('02AB.cdEF.0123', 'mac'), '02:ab:cd:ef:01:23')
  for (const text of [
    '',
    '02:00:00:00:00',
    '02:00:00:00:00:00:01',
    '02:00:00-00:00:01',
    '020000000001',
    '02:00:00:00:00:0g',
    '02:00:00:00:00:01\n',
  ]) {
    assert.throws(() => parseMac(text, 'mac'), /6 octets$/, JSON.stringify(text))
  }
  for (const text of ['00:00:00:00:00:00', '01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff', '03:00:00:00:00:00'])
    assert.throws(() => parseMac(text, 'mac'), /unicast/)
})

test('requestedRanges() gives the usual keys and drops what is empty', () => {
  const runtimeConfig = {
    ipRanges: [[{ Subnet: '10.0.0.0/24', RangeStart: '10.0.0.5', rangeEnd: '', gateway: null, x: 1 }], [{ subnet: 'fd00::/64', Gateway: 'fd00::1' }]],
  }
  assert.deepEqual(requestedRanges(runtimeConfig), [
    [{ subnet: '10.0.0.0/24', rangeStart: '10.0.0.5' }],
    [{ subnet: 'fd00::/64', gateway: 'fd00::1' }],
  ])
  assert.deepEqual(requestedRanges({}), [])
})

test('requestedRanges() refuses other shapes with code 7', () => {
  for (const ipRanges of [{}, 'x', [{}], [[1]], [[{}]], [[{ subnet: 5 }]], [[{ subnet: 'x', rangeStart: 1 }]]]) {
    assert.throws(() => requestedRanges({ ipRanges }), { cniCode: 7 })
  }
})

test('the capabilities give values or TsnetErrors, whatever they read', () => {
  const json = fc.oneof(fc.jsonValue(), fc.array(fc.oneof(fc.ipV4(), fc.ipV6(), fc.string())))
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom('ips', 'mac', 'ipRanges'), json), fc.string(), (object, text) => {
      const sources = { runtimeConfig: object, args: object, cniArgs: { ip: text, mac: text, others: new Map() } }
      for (const run of [() => requestedAddresses(sources), () => requestedMac(sources), () => requestedRanges(object)]) {
        try {
          run()
        } catch (error) {
          assert.ok(error instanceof TsnetError && error.cniCode === 7, String(error))
        }
      }
    }),
  )
})
