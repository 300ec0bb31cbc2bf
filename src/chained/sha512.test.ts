import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { sha512 } from './sha512.ts'

test('sha512() is what node:crypto makes of texts of every length around a block and two, and of others than ASCII', () => {
  const texts = Array.from({ length: 300 }, (_, length) => 'network/container '.repeat(20).slice(0, length))
  for (const text of [...texts, 'größe 网络 🌐']) assert.equal(sha512(text), createHash('sha512').update(text).digest('hex'))
})
