import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ByteWriter } from './byte-writer.ts'
import { decodeNetnsId, encodeNetnsId } from './netns-id.ts'

test('encodeNetnsId() asks by a descriptor, and decodeNetnsId() reads a number that may be negative', () => {
  const writer = new ByteWriter()
  encodeNetnsId(writer, { fd: 7 })
  assert.equal(writer.view().toString('hex'), '00000000'.concat('08000300', '07000000'))
  assert.equal(decodeNetnsId(Buffer.from('00000000'.concat('08000100', 'ffffffff'), 'hex')).id, -1)
  assert.throws(() => decodeNetnsId(Buffer.alloc(3)), /short/)
})
