import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { findDuplicateKey } from './duplicate-keys.ts'

test('findDuplicateKey() finds a key that occurs twice in the member, and nowhere else', () => {
  assert.equal(findDuplicateKey('{"a":{"x":1,"y":{"x":2},"x":3}}', 'a'), 'x')
  assert.equal(findDuplicateKey('{"A":{"x":1,"\\u0078":3}}', 'a'), 'x')
  assert.equal(findDuplicateKey('{"b":{"x":1,"x":3},"a":{"x":"\\"x\\":{"}}', 'a'), undefined)
  assert.equal(findDuplicateKey('{"a":[{"x":1},{"x":2}]}', 'a'), undefined)
})

test('findDuplicateKey() finds none in what JSON.stringify() writes', () => {
  fc.assert(fc.property(fc.object(), (value) => assert.equal(findDuplicateKey(JSON.stringify({ sysctl: value }), 'sysctl'), undefined)))
})
