import assert from 'node:assert/strict'
import { test } from 'node:test'
import { shapedRateOf } from './shaper.ts'

test('shapedRateOf() counts as tc does: rate 8mbit burst 200kb latency 25ms', () => {
  // tc -d qdisc on a kernel with 15.625 ticks in a microsecond.
  assert.deepEqual(shapedRateOf({ rate: 8_000_000, burst: 1_600_000 }, 15.625), { bytesPerSecond: 1_000_000n, limit: 225_000, buffer: 3_125_000 })
})

test('shapedRateOf() keeps rates of more than 32 bits', () => {
  assert.equal(shapedRateOf({ rate: 80_000_000_000, burst: 800_000 }, 15.625).bytesPerSecond, 10_000_000_000n)
})
