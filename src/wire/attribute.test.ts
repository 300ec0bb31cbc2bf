import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { be16, bytes, cstring, decodeAttributes, eachAttribute, encodeAttributes, i32, nested, u8, u32 } from './attribute.ts'
import { ByteWriter } from './byte-writer.ts'

const inner = { small: u8(1), port: be16(2) }
const table = { word: u32(1), signed: i32(2), name: cstring(3), blob: bytes(4), inner: nested(5, inner) }

const values = fc.record(
  {
    word: fc.nat(0xffffffff),
    signed: fc.integer({ min: -0x80000000, max: 0x7fffffff }),
    name: fc.string({ unit: 'grapheme' }).filter((text) => !text.includes('\0')),
    blob: fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array)),
    inner: fc.record({ small: fc.nat(255), port: fc.nat(65535) }, { requiredKeys: [], noNullPrototype: true }),
  },
  { requiredKeys: [], noNullPrototype: true },
)

function encoded(value: Parameters<typeof encodeAttributes<typeof table>>[2]): Buffer {
  const writer = new ByteWriter()
  encodeAttributes(writer, table, value)
  return Buffer.from(writer.view())
}

test('decodeAttributes() gives back what encodeAttributes() wrote', () => {
  fc.assert(fc.property(values, (value) => assert.deepEqual(decodeAttributes(encoded(value), table), value)))
})

/** A second, slow encoder of the same layout: the two must agree byte by byte. */
function slow(type: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(4)
  header.writeUInt16LE(4 + payload.length, 0)
  header.writeUInt16LE(type, 2)
  return Buffer.concat([header, payload, Buffer.alloc(-payload.length & 3)])
}

test('encodeAttributes() agrees with a second encoder', () => {
  fc.assert(
    fc.property(fc.nat(0xffffffff), fc.uint8Array({ maxLength: 100 }), fc.nat(255), (word, blob, small) => {
      const number = Buffer.alloc(4)
      number.writeUInt32LE(word)
      const want = Buffer.concat([slow(1, number), slow(4, Buffer.from(blob)), slow(5 | 0x8000, slow(1, Buffer.of(small)))])
      assert.deepEqual(encoded({ word, blob: Buffer.from(blob), inner: { small } }), want)
    }),
  )
})

test('decodeAttributes() passes over what the table does not name', () => {
  const known = slow(5 | 0x8000, slow(1, Buffer.of(7)))
  const data = Buffer.concat([slow(77, Buffer.from('abc')), known, slow(78 | 0x8000, slow(1, Buffer.of(9)))])
  assert.deepEqual(decodeAttributes(data, table), { inner: { small: 7 } })
})

test('decodeAttributes() refuses short ones and never crashes otherwise', () => {
  assert.throws(() => decodeAttributes(Buffer.of(1, 0), table), /header is short/)
  assert.throws(() => decodeAttributes(Buffer.of(3, 0, 1, 0), table), /smaller than its header/)
  assert.throws(() => decodeAttributes(Buffer.of(9, 0, 1, 0), table), /Attribute is short/)
  assert.throws(() => decodeAttributes(slow(1, Buffer.of(1)), table), /1 of 4 bytes/)
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (data) => {
      try {
        decodeAttributes(Buffer.from(data), table)
      } catch (error) {
        assert.ok(error instanceof RangeError)
      }
    }),
  )
})

test("encodeAttributes() goes on over the end of the writer's first buffer", () => {
  const writer = new ByteWriter()
  for (const i of [1, 2, 3]) encodeAttributes(writer, table, { blob: Buffer.alloc(3000, i), word: 7 })
  assert.deepEqual(
    [...eachAttribute(writer.view())].map(({ payload }) => payload.length),
    [3000, 4, 3000, 4, 3000, 4],
  )
  assert.deepEqual(decodeAttributes(Buffer.from(writer.view()), table).blob, Buffer.alloc(3000, 3))
})

test('cstring() refuses a zero byte inside', () => assert.throws(() => encoded({ name: 'a\0b' }), RangeError))
