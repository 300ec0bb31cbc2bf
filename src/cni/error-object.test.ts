import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ErrorList, KernelError, TsnetError } from '../error.ts'
import { errorObject } from './error-object.ts'

test('errorObject() tells code, message, details and hint of a TsnetError', () => {
  const error = new TsnetError('TSNET_X', 'Cannot do it', { cniCode: 7, details: 'because', hint: 'Do that' })
  assert.deepEqual(errorObject(error, '1.1.0'), { cniVersion: '1.1.0', code: 7, msg: 'Cannot do it', details: 'because; Do that' })
  assert.deepEqual(errorObject(new TsnetError('TSNET_X', 'Cannot do it', { hint: 'Do that' })), {
    code: 999,
    msg: 'Cannot do it',
    details: 'Do that',
  })
  assert.deepEqual(errorObject(new TsnetError('TSNET_X', 'Cannot do it')), { code: 999, msg: 'Cannot do it' })
})

test('errorObject() finds the code of a cause under sentences without one', () => {
  const inner = new TsnetError('TSNET_POOL', 'Pool is full', { cniCode: 11, details: 'd', hint: 'h' })
  const outer = new TsnetError('TSNET_ADD', 'Cannot attach', { cause: inner })
  assert.deepEqual(errorObject(outer), { code: 11, msg: 'Cannot attach: Pool is full', details: 'd; h' })
  assert.equal(errorObject(new ErrorList('Cannot undo', [inner, new Error('x')])).code, 11)
  assert.equal(
    errorObject(new KernelError('create veth', 17, { name: 'EEXIST', text: 'File exists' })).msg,
    'Cannot create veth: File exists (EEXIST)',
  )
})

test('errorObject() tells only the message of any other error', () => {
  const error = new TypeError('x is not a function', { cause: new Error('inner') })
  assert.deepEqual(errorObject(error), { code: 999, msg: 'x is not a function' })
  assert.deepEqual(errorObject('text'), { code: 999, msg: 'text' })
  assert.deepEqual(errorObject(undefined), { code: 999, msg: 'undefined' })
  assert.deepEqual(errorObject(new Error('')), { code: 999, msg: 'unknown error' })
  assert.deepEqual(errorObject(Object.create(null)), { code: 999, msg: 'unknown error' })
})

test('errorObject() never shows a stack or control characters', () => {
  const error = new Error('Command failed\nError: x\n    at f (/a/b.js:1:2)\n    at g (/a/b.js:3:4)')
  assert.equal(errorObject(error).msg, 'Command failed Error: x')
  assert.equal(errorObject(new Error('a\u0000\u001b[31mb\r\nc\u2028d')).msg, 'a [31mb c d')
})

test('errorObject() keeps msg and details within 4 KiB of whole characters', () => {
  const { msg, details = '' } = errorObject(new TsnetError('TSNET_X', `a${'ü'.repeat(5000)}`, { details: '😀'.repeat(5000) }))
  assert.equal(Buffer.byteLength(msg), 4095)
  assert.equal(Buffer.byteLength(details), 4096)
  assert.doesNotMatch(msg + details, /\ufffd/)
})

test('errorObject() survives causes in a circle and hostile values', () => {
  const error = new TsnetError('TSNET_X', 'outer')
  error.cause = error
  assert.equal(errorObject(error).msg, 'outer')
  const hostile = { toString: () => assert.fail('never mind') }
  assert.deepEqual(errorObject(hostile), { code: 999, msg: 'unknown error' })
  fc.assert(
    fc.property(fc.anything(), (value) => {
      const { code, msg } = JSON.parse(JSON.stringify(errorObject(value)))
      assert.ok(code === 999 && msg.length > 0 && !/\p{Cc}/u.test(msg))
    }),
  )
})
