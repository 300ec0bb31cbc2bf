import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TsnetError } from '../error.ts'
import { parseTimeLimit } from './time-limit.ts'

test('parseTimeLimit() takes seconds, and 30 where nothing is said', () => {
  assert.deepEqual([undefined, '', '5', '0.25', '3600'].map(parseTimeLimit), [30_000, 30_000, 5000, 250, 3_600_000])
})

test('parseTimeLimit() refuses what is no time', () => {
  for (const text of ['0', '-1', '1e3', '3601', '99999', '0.0001', ' 5', '5s', 'Infinity', 'NaN', '0x10']) {
    assert.throws(
      () => parseTimeLimit(text),
      (error) => error instanceof TsnetError && error.cniCode === 4,
      text,
    )
  }
})
