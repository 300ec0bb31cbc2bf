/** The order in which addresses of a range set are handed out: after the one that was handed out last, and round. */
import type { IpAddress } from '../../wire/ip-address.ts'
import { addressOfSlot, type Range, type RangeSet, slotCount, slotOf } from '../range.ts'

/**
 * @param last What was handed out last; one of another configuration makes it begin at the beginning.
 * @returns Every address of the set once, without the gateways, the last one at the very end.
 * @see containernetworking/plugins plugins/ipam/host-local/backend/allocator/allocator.go, RangeIter
 */
export function* addressesAfter(set: RangeSet, last: IpAddress | undefined): Generator<{ readonly range: Range; readonly address: IpAddress }> {
  const found = last === undefined ? -1 : set.findIndex((range) => within(range, last))
  const start = Math.max(found, 0)
  const begun = set[start]
  if (begun === undefined) return
  // Where the gateway was moved to the last address, the next one is as good.
  const after = last !== undefined && found >= 0 ? slotsUpTo(begun, last) : 0n
  yield* slots(begun, after, slotCount(begun))
  for (let i = 1; i < set.length; i++) {
    const range = set[(start + i) % set.length]
    if (range !== undefined) yield* slots(range, 0n, slotCount(range))
  }
  yield* slots(begun, 0n, after)
}

function* slots(range: Range, from: bigint, to: bigint) {
  for (let slot = from; slot < to; slot++) yield { range, address: addressOfSlot(range, slot) }
}

function within(range: Range, { family, value }: IpAddress): boolean {
  return family === range.first.family && range.first.value <= value && value <= range.last.value
}

/** @returns How many slots there are up to an address of the range, itself included. */
function slotsUpTo(range: Range, address: IpAddress): bigint {
  const slot = slotOf(range, address)
  if (slot !== undefined) return slot + 1n
  const before = { ...address, value: address.value - 1n }
  return within(range, before) ? slotsUpTo(range, before) : 0n
}
