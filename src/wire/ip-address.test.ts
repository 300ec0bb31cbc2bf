import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  addressFromBytes,
  addressToBytes,
  containsAddress,
  formatAddress,
  formatPrefix,
  type IpAddress,
  type IpPrefix,
  lastAddress,
  networkAddress,
  parseAddress,
  parsePrefix,
  prefixesOverlap,
} from './ip-address.ts'

const v4: fc.Arbitrary<IpAddress> = fc.nat(0xffffffff).map((value) => ({ family: 4, value: BigInt(value) }))
const v6: fc.Arbitrary<IpAddress> = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map((value) => ({ family: 6, value }))
const address = fc.oneof(v4, v6)

test('parseAddress() reads what formatAddress() writes', () => {
  fc.assert(fc.property(address, (value) => assert.deepEqual(parseAddress(formatAddress(value)), value)))
})

test('addressFromBytes() reads what addressToBytes() writes', () => {
  fc.assert(fc.property(address, (value) => assert.deepEqual(addressFromBytes(addressToBytes(value)), value)))
  assert.throws(() => addressFromBytes(new Uint8Array(5)), RangeError)
})

test('formatAddress() writes RFC 5952', () => {
  for (const [text, want] of [
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['::ffff:10.0.0.1', '::ffff:a00:1'],
    ['fe80::', 'fe80::'],
  ] as const) {
    const parsed = parseAddress(text)
    assert.ok(parsed !== undefined, text)
    assert.equal(formatAddress(parsed), want)
  }
})

test('parseAddress() refuses what is no address', () => {
  const texts = [
    '',
    '10.0.0',
    '10.0.0.256',
    '10.0.0.01',
    '1.2.3.4.5',
    ' 10.0.0.1',
    '10.0.0.1 ',
    '::1::',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    'fe80::1%eth0',
    '12345::',
    'g::',
    '1:2:3:4:5:6:7::8',
    '::1.2.3',
    '1.2.3.4::',
    ':1:2:3:4:5:6:7',
  ]
  for (const text of texts) assert.equal(parseAddress(text), undefined, text)
})

test('parsePrefix() keeps host bits and refuses bad lengths', () => {
  assert.equal(formatPrefix(parsePrefix('10.1.2.3/8') as IpPrefix), '10.1.2.3/8')
  for (const text of ['10.0.0.0', '10.0.0.0/33', '10.0.0.0/-1', '10.0.0.0/08', '::/129', '10.0.0.0/', '/8'])
    assert.equal(parsePrefix(text), undefined, text)
})

test('a prefix contains its first and last address and nothing beyond', () => {
  fc.assert(
    fc.property(address, fc.nat(128), (value, length) => {
      const prefix = { address: value, prefixLength: value.family === 4 ? length % 33 : length }
      const [first, last] = [networkAddress(prefix), lastAddress(prefix)]
      assert.ok(containsAddress(prefix, first) && containsAddress(prefix, last) && first.value <= value.value && value.value <= last.value)
      assert.ok(!containsAddress(prefix, { family: value.family, value: last.value + 1n }))
    }),
  )
})

test('prefixesOverlap() holds when one contains the other, and only then', () => {
  const overlap = (a: string, b: string) => prefixesOverlap(parsePrefix(a) as IpPrefix, parsePrefix(b) as IpPrefix)
  assert.ok(overlap('10.0.0.0/8', '10.9.0.0/16') && overlap('10.9.0.0/16', '10.0.0.0/8') && overlap('10.0.0.0/24', '10.0.0.7/24'))
  assert.ok(!overlap('10.0.0.0/24', '10.0.1.0/24') && !overlap('0.0.0.0/0', '::/0'))
})
