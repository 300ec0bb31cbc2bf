/**
 * A range of addresses, and its slots: the addresses that may be handed out, counted from 0 without the gateway and without
 * what is excluded. A slot number leads to its address and back without a walk, however large an exclusion is.
 */
import { type Family, formatAddress, type IpAddress, type IpPrefix, lastAddress, networkAddress } from '../wire/ip-address.ts'

/** Both ends belong to it. */
export interface AddressSpan {
  readonly first: IpAddress
  readonly last: IpAddress
}

/** Part of a subnet from which addresses are handed out. `first` and `last` can be handed out themselves. */
export interface Range extends AddressSpan {
  /** Without host bits. */
  readonly subnet: IpPrefix
  readonly gateway: IpAddress
  /** Sorted, neither overlapping nor touching one another, all inside `first` to `last`. */
  readonly exclude: readonly AddressSpan[]
}

/** Alternatives of one family: an attachment gets one address from each set. Never empty. */
export type RangeSet = readonly Range[]

/** @returns `10.0.0.2-10.0.0.254`. */
export function formatSpan(span: AddressSpan): string {
  return `${formatAddress(span.first)}-${formatAddress(span.last)}`
}

/** @returns The ranges of a set as messages name them: `10.0.0.2-10.0.0.254, 10.0.1.2-10.0.1.254`. */
export function formatRangeSet(set: RangeSet): string {
  return set.map(formatSpan).join(', ')
}

/** @returns Whether the two share an address. */
export function spansOverlap(a: AddressSpan, b: AddressSpan): boolean {
  return a.first.family === b.first.family && a.first.value <= b.last.value && b.first.value <= a.last.value
}

/** @returns The addresses of a subnet that a host may have: all but the network address, and for IPv4 all but the broadcast address. */
export function hostSpan(subnet: IpPrefix): AddressSpan {
  const family = subnet.address.family
  const last = lastAddress(subnet).value
  return { first: { family, value: networkAddress(subnet).value + 1n }, last: { family, value: family === 4 ? last - 1n : last } }
}

/**
 * Makes a range that begins and ends with an address that can be handed out.
 * @param span What the configuration names; network and broadcast address are cut off.
 * @param exclude In any order, overlapping or not, inside the span or not.
 * @returns The range, or undefined when the gateway and the exclusions leave no address.
 */
export function makeRange(subnet: IpPrefix, span: AddressSpan, gateway: IpAddress, exclude: readonly AddressSpan[]): Range | undefined {
  const { family } = subnet.address
  const hosts = hostSpan(subnet)
  let first = span.first.value > hosts.first.value ? span.first.value : hosts.first.value
  let last = span.last.value < hosts.last.value ? span.last.value : hosts.last.value
  const blocked = merge([...exclude, { first: gateway, last: gateway }], family)
  for (const block of blocked) if (block.first <= first && first <= block.last) first = block.last + 1n
  for (const block of blocked.toReversed()) if (block.first <= last && last <= block.last) last = block.first - 1n
  if (first > last) return undefined
  const inside = merge(exclude, family).filter((block) => block.first <= last && first <= block.last)
  return {
    subnet,
    first: { family, value: first },
    last: { family, value: last },
    gateway,
    exclude: inside.map((block) => ({ first: { family, value: block.first }, last: { family, value: block.last } })),
  }
}

/** @returns How many addresses the range can hand out, at least 1. */
export function slotCount(range: Range): bigint {
  return range.last.value - range.first.value + 1n - blocksOf(range).reduce((sum, block) => sum + block.last - block.first + 1n, 0n)
}

/** @returns The slot of an address, or undefined when the range cannot hand it out. */
export function slotOf(range: Range, address: IpAddress): bigint | undefined {
  const { family, value } = address
  if (family !== range.first.family || value < range.first.value || value > range.last.value) return undefined
  let slot = value - range.first.value
  for (const block of blocksOf(range)) {
    if (value < block.first) break
    if (value <= block.last) return undefined
    slot -= block.last - block.first + 1n
  }
  return slot
}

/** @param slot 0 to `slotCount(range) - 1`. @returns Its address. */
export function addressOfSlot(range: Range, slot: bigint): IpAddress {
  let value = range.first.value + slot
  for (const block of blocksOf(range)) {
    if (value < block.first) break
    value += block.last - block.first + 1n
  }
  return { family: range.first.family, value }
}

/** @returns The range of the set that can hand out `address`, or undefined. */
export function rangeWith(set: RangeSet, address: IpAddress): Range | undefined {
  return set.find((range) => slotOf(range, address) !== undefined)
}

interface Block {
  readonly first: bigint
  readonly last: bigint
}

const blocks = new WeakMap<Range, readonly Block[]>()

/** What lies inside the range and is never handed out, sorted and disjoint. */
function blocksOf(range: Range): readonly Block[] {
  const known = blocks.get(range)
  if (known !== undefined) return known
  const gatewayInside = range.gateway.value >= range.first.value && range.gateway.value <= range.last.value
  const gateway = gatewayInside ? [{ first: range.gateway, last: range.gateway }] : []
  const merged = merge([...range.exclude, ...gateway], range.first.family)
  blocks.set(range, merged)
  return merged
}

function merge(spans: readonly AddressSpan[], family: Family): readonly Block[] {
  const sorted = spans.filter((span) => span.first.family === family).map((span) => ({ first: span.first.value, last: span.last.value }))
  sorted.sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0))
  const merged: { first: bigint; last: bigint }[] = []
  for (const span of sorted) {
    const before = merged.at(-1)
    if (before === undefined || span.first > before.last + 1n) merged.push(span)
    else if (span.last > before.last) before.last = span.last
  }
  return merged
}
