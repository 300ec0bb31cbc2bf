import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { IpAddress } from '../wire/ip-address.ts'
import { addressOfSlot, makeRange, slotCount, slotOf } from './range.ts'

const at = (offset: number): IpAddress => ({ family: 4, value: 0x0a000000n + BigInt(offset) })
const subnet = { address: at(0), prefixLength: 26 }
const spans = fc.array(
  fc.tuple(fc.nat(63), fc.nat(63)).map(([a, b]) => ({ first: at(Math.min(a, b)), last: at(Math.max(a, b)) })),
  { maxLength: 4 },
)

test('slots are exactly the addresses that may be handed out, in order', () => {
  fc.assert(
    fc.property(fc.nat(63), fc.nat(63), fc.nat(70), spans, (a, b, gateway, exclude) => {
      const [first, last] = [Math.min(a, b), Math.max(a, b)]
      const free = Array.from({ length: 64 }, (_, i) => i).filter(
        (i) =>
          i >= first &&
          i <= last &&
          i !== 0 &&
          i !== 63 &&
          i !== gateway &&
          !exclude.some((span) => at(i).value >= span.first.value && at(i).value <= span.last.value),
      )
      const range = makeRange(subnet, { first: at(first), last: at(last) }, at(gateway), exclude)
      if (range === undefined) return assert.equal(free.length, 0)
      assert.equal(slotCount(range), BigInt(free.length))
      assert.deepEqual([range.first, range.last], [at(free[0] as number), at(free.at(-1) as number)])
      for (let i = -1; i < 65; i++) {
        const slot = free.indexOf(i)
        assert.equal(slotOf(range, at(i)), slot < 0 ? undefined : BigInt(slot))
        if (slot >= 0) assert.deepEqual(addressOfSlot(range, BigInt(slot)), at(i))
      }
    }),
  )
})
