import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { decodeDomains, encodeDomains } from './domain-list.ts'
import { decodeFrame, encodeFrame } from './frame.ts'
import { clientMessage, decodeMessage, encodeMessage, MESSAGE } from './message.ts'
import { decodeOptions, encodeOptions, optionCode } from './option.ts'

const ipv4 = fc.ipV4().filter((text) => !/(^|\.)0\d/.test(text))
const label = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/)
const domain = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join('.'))
const route = fc
  .tuple(ipv4, fc.integer({ min: 0, max: 32 }), ipv4)
  .map(([address, length, gateway]) => ({ destination: `${masked(address, length)}/${length}`, gateway }))
const known = fc.record(
  {
    subnetMask: ipv4,
    routers: fc.array(ipv4, { minLength: 1, maxLength: 100 }),
    domainName: fc.stringMatching(/^[ -~]{1,300}$/),
    mtu: fc.nat(65535),
    messageType: fc.integer({ min: 1, max: 8 }),
    leaseTime: fc.nat(0xffffffff),
    clientID: fc.uint8Array({ minLength: 1, maxLength: 600 }).map((bytes) => Buffer.from(bytes)),
    domainSearch: fc.array(domain, { minLength: 1, maxLength: 20 }),
    classlessRoutes: fc.array(route, { minLength: 1, maxLength: 60 }),
  },
  { requiredKeys: [], noNullPrototype: true },
)

function masked(address: string, length: number): string {
  const mask = length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0
  const value = (address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0) & mask) >>> 0
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.')
}

test('options of any length come back as they went', () => {
  fc.assert(fc.property(known, (options) => assert.deepEqual(decodeOptions([encodeOptions(options)]), options)))
})

test('messages and frames come back as they went', () => {
  fc.assert(
    fc.property(known, ipv4, ipv4, fc.nat(0xffffffff), (options, ciaddr, destination, xid) => {
      const message = clientMessage({ xid, ciaddr, chaddr: Buffer.from('020000000001', 'hex'), options, broadcast: true, seconds: 7 })
      const payload = encodeMessage(message)
      assert.ok(payload.length >= 300)
      assert.deepEqual(decodeMessage(payload), message)
      const mac = Buffer.from('020000000002', 'hex')
      const frame = { destinationMac: mac, sourceMac: mac, source: ciaddr, destination, sourcePort: 68, destinationPort: 67, payload }
      assert.deepEqual(decodeFrame(encodeFrame(frame)), frame)
    }),
  )
})

test('a frame that lost or changed a bit is refused, not misread', () => {
  const mac = Buffer.alloc(6, 2)
  const payload = encodeMessage(clientMessage({ xid: 1, chaddr: mac, options: { messageType: MESSAGE.offer } }))
  const frame = encodeFrame({
    destinationMac: mac,
    sourceMac: mac,
    source: '10.0.0.1',
    destination: '10.0.0.2',
    sourcePort: 67,
    destinationPort: 68,
    payload,
  })
  fc.assert(
    fc.property(fc.integer({ min: 14, max: frame.length - 1 }), fc.integer({ min: 0, max: 7 }), (byte, bit) => {
      const broken = Buffer.from(frame)
      broken[byte] = (broken[byte] as number) ^ (1 << bit)
      assert.throws(() => decodeFrame(broken), RangeError)
    }),
  )
  fc.assert(fc.property(fc.nat(frame.length - 1), (length) => assert.throws(() => decodeFrame(frame.subarray(0, length)), RangeError)))
})

test('what a stranger sends is decoded or refused with a RangeError, and always ends', () => {
  const unlessRange = (decode: () => unknown) => {
    try {
      decode()
    } catch (error) {
      assert.ok(error instanceof RangeError, String(error))
    }
  }
  const head = encodeMessage(clientMessage({ xid: 1, chaddr: Buffer.alloc(6), options: {} })).subarray(0, 240)
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 700 }), (bytes) => {
      unlessRange(() => decodeFrame(Buffer.from(bytes)))
      unlessRange(() => decodeMessage(Buffer.from(bytes)))
      unlessRange(() => decodeMessage(Buffer.concat([head, bytes])))
      unlessRange(() => decodeDomains(Buffer.from(bytes)))
    }),
    { numRuns: 1000 },
  )
})

test('decodeOptions() keeps a value of another form as bytes: it costs nothing but itself', () => {
  // An MTU of one byte, and routers of five.
  const { mtu, routers, unknown, leaseTime } = decodeOptions([Buffer.of(26, 1, 9, 3, 5, 1, 2, 3, 4, 5, 51, 4, 0, 0, 0, 9, 255, 1, 1)])
  assert.deepEqual([mtu, routers, leaseTime], [undefined, undefined, 9])
  assert.deepEqual(
    unknown?.map(({ code, payload }) => [code, ...payload]),
    [
      [26, 9],
      [3, 1, 2, 3, 4, 5],
    ],
  )
  assert.throws(() => decodeOptions([Buffer.of(51, 4, 0)]), /option 51 is cut off/)
})

test('decodeMessage() reads options that overflow into the fields of BOOTP', () => {
  const payload = encodeMessage(clientMessage({ xid: 1, chaddr: Buffer.alloc(6), options: { overload: 3, messageType: 2 } }))
  payload.set([3, 4, 10, 0, 0, 1, 255], 108)
  payload.set([12, 2, 0x68, 0x69, 255], 44)
  assert.deepEqual(decodeMessage(payload).options, { overload: 3, messageType: 2, routers: ['10.0.0.1'], hostName: 'hi' })
})

test('decodeDomains() follows references backwards, and refuses those that lead elsewhere', () => {
  assert.deepEqual(decodeDomains(Buffer.concat([encodeDomains(['a.example']), Buffer.of(1, 0x62, 0xc0, 2)])), ['a.example', 'b.example'])
  assert.deepEqual(decodeDomains(Buffer.of(0)), [])
  for (const bytes of [
    [0xc0, 0],
    [1, 0x62, 0xc0, 0],
    [1, 0x62, 0xc0, 9],
    [5, 0x62],
    [0x80, 1],
    [1, 0x62],
  ])
    assert.throws(() => decodeDomains(Buffer.from(bytes)), RangeError, String(bytes))
})

test('optionCode() knows names and numbers', () => {
  const words = ['routers', 'host-name', 'dhcp-client-identifier', 'user-class', '42', '254', '0', '255', '256', '-1', '1x', 'nothing', '']
  assert.deepEqual(words.map(optionCode), [3, 12, 61, 77, 42, 254, undefined, undefined, undefined, undefined, undefined, undefined, undefined])
})
