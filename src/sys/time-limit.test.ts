import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TsnetError } from '../error.ts'
import { sleep } from './time.ts'
import { checkTimeLimit, remainingMs, withTimeLimit } from './time-limit.ts'

const isTimeOver = (error: unknown) => error instanceof TsnetError && error.code === 'TSNET_TIMEOUT' && error.cniCode === 11

test('remainingMs() is what is left of the limit, never less than 0, and nothing is limited without one', () => {
  assert.equal(remainingMs(77), 77)
  checkTimeLimit()
  withTimeLimit(1000, () => {
    assert.ok(remainingMs(0) > 900 && remainingMs(0) <= 1000)
    checkTimeLimit()
  })
  withTimeLimit(1, () => {
    sleep(2)
    assert.equal(remainingMs(77), 0)
    assert.throws(checkTimeLimit, isTimeOver)
  })
})

test('withTimeLimit() gives the inner call a time of its own, and the outer one back also after an error', () => {
  withTimeLimit(1, () => {
    sleep(2)
    withTimeLimit(1000, checkTimeLimit)
    assert.throws(() => withTimeLimit(1000, () => assert.fail('inner')), /inner/)
    assert.throws(checkTimeLimit, isTimeOver)
  })
  assert.equal(remainingMs(77), 77)
})
