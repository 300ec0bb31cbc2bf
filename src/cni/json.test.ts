import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { CNI_CODE, TsnetError } from '../error.ts'
import {
  field,
  isObject,
  omitFields,
  optionalArray,
  optionalBoolean,
  optionalInteger,
  optionalObject,
  optionalObjects,
  optionalString,
  optionalStrings,
  parseJson,
  present,
  quote,
} from './json.ts'

const refusal = (message: string) => (error: unknown) =>
  error instanceof TsnetError && error.code === 'TSNET_CONFIG' && error.cniCode === CNI_CODE.invalidConfig && error.message === message

test('parseJson() refuses text that is not JSON with code 6', () => {
  for (const text of ['', '{', '{"a":1}x', '\ufeff{}', 'NaN']) {
    assert.throws(
      () => parseJson(text),
      (error) => error instanceof TsnetError && error.cniCode === 6,
    )
  }
  assert.deepEqual(parseJson(' [1] '), [1])
})

test('field() reads keys in any case, the last spelling in the document, null as absent', () => {
  assert.equal(field({ HostPort: 1 }, 'hostPort'), 1)
  assert.equal(field({ hostPort: 1, HOSTPORT: 2 }, 'hostPort'), 2)
  assert.equal(field({ HOSTPORT: 2, hostPort: 1 }, 'hostPort'), 1)
  assert.equal(field({ hostPort: 1, HOSTPORT: null }, 'hostPort'), 1)
  assert.equal(field({ hostPort: null }, 'hostPort'), undefined)
  assert.equal(field({}, 'constructor'), undefined)
  assert.equal(field(JSON.parse('{"__proto__":{"hostPort":1}}'), 'hostPort'), undefined)
})

test('omitFields() takes every spelling away', () => {
  assert.deepEqual(omitFields({ Name: 1, NAME: 2, other: 3 }, 'name', 'type'), { other: 3 })
})

test('present() drops undefined alone', () => {
  assert.deepEqual(present({ a: undefined, b: null, c: 0 }), { b: null, c: 0 })
})

test('quote() escapes, and never gives more than 64 characters', () => {
  assert.equal(quote('a"b\n\u007f\u0085\u202e\u2028'), '"a\\"b\\n\\u007f\\u0085\\u202e\\u2028"')
  assert.equal(quote('x'.repeat(70)), `"${'x'.repeat(61)}…"`)
  assert.equal(quote([1]), 'a list')
  assert.equal(quote({}), 'an object')
  assert.equal(quote(null), 'null')
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: 'binary', maxLength: 200 }), fc.anything()), (value) => {
      assert.ok(quote(value).length <= 64 || typeof value !== 'string')
      assert.doesNotMatch(quote(typeof value === 'string' ? value : ''), /\p{Cc}|[\u202a-\u202e]/u)
    }),
  )
})

test('the readers refuse another type, naming key and value, and give undefined for absent and null', () => {
  assert.throws(() => optionalString({ Bridge: 5 }, 'bridge'), refusal('Invalid "bridge": 5 is not a string'))
  assert.throws(() => optionalBoolean({ ipMasq: 'true' }, 'ipMasq'), refusal('Invalid "ipMasq": "true" is not true or false'))
  assert.throws(() => optionalObject({ ipam: [] }, 'ipam'), refusal('Invalid "ipam": a list is not an object'))
  assert.throws(() => optionalArray({ ips: {} }, 'ips', 'a.'), refusal('Invalid "a.ips": an object is not a list'))
  assert.throws(() => optionalStrings({ ips: ['x', 1] }, 'ips', 'a.'), refusal('Invalid "a.ips[1]": 1 is not a string'))
  assert.throws(() => optionalObjects({ ips: [null] }, 'ips'), refusal('Invalid "ips[0]": null is not an object'))
  for (const read of [optionalString, optionalBoolean, optionalObject, optionalArray, optionalStrings, optionalObjects]) {
    assert.equal(read({}, 'key'), undefined)
    assert.equal(read({ key: null }, 'key'), undefined)
  }
})

test('optionalInteger() takes whole numbers of the range only', () => {
  const range = { min: 0, max: 4094, path: 'x.' }
  assert.equal(optionalInteger({ VLAN: 4094 }, 'vlan', range), 4094)
  assert.equal(optionalInteger({ vlan: null }, 'vlan', range), undefined)
  for (const value of [-1, 4095, 1.5, '1', true, Number.NaN]) {
    assert.throws(
      () => optionalInteger({ vlan: value }, 'vlan', range),
      refusal(`Invalid "x.vlan": ${quote(value)} is not a whole number from 0 to 4094`),
    )
  }
})

test('a refusal of deeply nested or huge values stays short', () => {
  const deep = JSON.parse(`${'['.repeat(200_000)}${']'.repeat(200_000)}`)
  assert.throws(() => optionalString({ bridge: deep }, 'bridge'), refusal('Invalid "bridge": a list is not a string'))
  assert.throws(
    () => optionalBoolean({ ipMasq: 'x'.repeat(1e6) }, 'ipMasq'),
    (error) => error instanceof TsnetError && error.message.length < 120,
  )
})

test('isObject() knows lists and null apart', () => {
  assert.deepEqual([{}, [], null, 'x', undefined].map(isObject), [true, false, false, false, false])
})
