/** Reserving addresses for an interface: one of each range set, or none at all. */
import { CNI_CODE, TsnetError } from '../../error.ts'
import { bootId } from '../../sys/boot.ts'
import { formatAddress, type IpAddress, parseAddress } from '../../wire/ip-address.ts'
import type { Lease } from '../lease.ts'
import { type RangeSet, rangeWith } from '../range.ts'
import type { IndexEntry, Purpose } from './holder-index.ts'
import { formatHostLocalSet } from './range-sets.ts'
import type { Holder } from './reservation-folder.ts'
import type { ReservationStore } from './reservation-store.ts'
import { addressesAfter } from './round-robin.ts'

/** After so many taken addresses one after the other their names are read, instead of trying each. */
const TRIES = 32

export interface ReserveRequest {
  readonly holder: Required<Holder>
  readonly purpose: Purpose
  readonly sets: readonly RangeSet[]
  /** Addresses that are wished for, each of another set. */
  readonly requested: readonly IpAddress[]
}

interface Reserved {
  readonly lease: Lease
  readonly entry: IndexEntry
}

/**
 * What the interface has from an attachment whose namespace is gone is taken over: the former one was never detached.
 * @returns In the order of the sets.
 * @throws TsnetError TSNET_POOL_FULL, CNI code 11, after all of vanished namespaces was reclaimed; TSNET_ADDRESS_TAKEN (102) for a
 * requested address, or when the interface has one already; TSNET_REQUESTED_ADDRESS (7); then nothing is reserved
 */
export function reserveAddresses(store: ReservationStore, request: ReserveRequest): readonly Lease[] {
  const { holder, sets } = request
  const { former, present } = heldBefore(store, request)
  const wishes = [...request.requested]
  const reserved: Reserved[] = []
  try {
    for (const [i, set] of sets.entries()) {
      const wish = takeWish(wishes, set)
      try {
        const held = present.find(({ address }) => inSet(set, address) !== undefined)
        if (held !== undefined) throw duplicate(held)
        reserved.push(reserveIn(store, { ...request, former, set, setIndex: i, wish }))
      } catch (cause) {
        throw inRange(i, cause)
      }
    }
    if (wishes.length > 0) throw refuseWish(`failed to allocate all requested IPs: ${wishes.map(formatAddress).join(' ')}`)
    for (const [i, { lease }] of reserved.entries()) store.folder.setLastReserved(i, lease.address)
    const kept = new Set(reserved.map(({ entry }) => entry.address))
    store.release(former.filter(({ address }) => !kept.has(address)))
    store.record(holder.containerID, (entries) => [...entries.filter(({ address }) => !kept.has(address)), ...reserved.map(({ entry }) => entry)])
  } catch (error) {
    const before = new Set(former.map(({ address }) => address))
    store.release(reserved.flatMap(({ entry }) => (before.has(entry.address) ? [] : [entry])))
    throw error
  }
  return reserved.map(({ lease }) => lease)
}

/** @returns What the interface has, by whether the attachment that it was for still exists. */
function heldBefore(store: ReservationStore, { holder, purpose }: ReserveRequest) {
  const hasVanished = store.judge()
  const isOver = (entry: IndexEntry) => (purpose.request !== undefined && entry.purpose?.request === purpose.request) || hasVanished(entry)
  const held = store.heldBy(holder).map((entry) => ({ entry, over: isOver(entry) }))
  return { former: held.flatMap(({ entry, over }) => (over ? [entry] : [])), present: held.flatMap(({ entry, over }) => (over ? [] : [entry])) }
}

interface SetRequest extends ReserveRequest {
  readonly former: readonly IndexEntry[]
  readonly set: RangeSet
  readonly setIndex: number
  readonly wish: IpAddress | undefined
}

function reserveIn(store: ReservationStore, request: SetRequest): Reserved {
  const { former, set, wish } = request
  const own = former.find(({ address }) => (wish === undefined ? inSet(set, address) !== undefined : address === formatAddress(wish)))
  const range = own && inSet(set, own.address)
  const address = own && parseAddress(own.address)
  if (own !== undefined && range !== undefined && address !== undefined) return reservedOf(request, range, { address, stamp: own.stamp })
  if (wish !== undefined) return reserveWish(store, request, wish)
  const found = nextFree(store, request)
  if (found !== undefined) return found
  if (reclaim(store, request)) {
    const reclaimed = nextFree(store, request)
    if (reclaimed !== undefined) return reclaimed
  }
  throw new TsnetError('TSNET_POOL_FULL', `no IP addresses available in range set: ${formatHostLocalSet(set)}`, {
    cniCode: CNI_CODE.tryAgain,
    hint: 'Make the range larger, or have the runtime collect its garbage (GC)',
  })
}

function reserveWish(store: ReservationStore, request: SetRequest, wish: IpAddress): Reserved {
  const { set, holder } = request
  const range = rangeWith(set, wish)
  if (range === undefined) throw refuseWish(`requested ip ${formatAddress(wish)} is subnet's gateway`)
  const reserve = () => store.reserve(formatAddress(wish), holder)
  const stamp = reserve() ?? (reclaim(store, request) ? reserve() : undefined)
  if (stamp !== undefined) return reservedOf(request, range, { address: wish, stamp })
  throw new TsnetError(
    'TSNET_ADDRESS_TAKEN',
    `requested IP address ${formatAddress(wish)} is not available in range set ${formatHostLocalSet(set)}`,
    {
      cniCode: CNI_CODE.addressTaken,
    },
  )
}

/** @returns Whether there is more to be had than before. */
function reclaim(store: ReservationStore, { holder }: ReserveRequest): boolean {
  return store.release(store.vanished(holder.containerID)).length > 0
}

function nextFree(store: ReservationStore, request: SetRequest): Reserved | undefined {
  const { set, setIndex, holder } = request
  let taken: ReadonlySet<string> | undefined
  let tries = 0
  for (const { range, address } of addressesAfter(set, store.folder.lastReserved(setIndex))) {
    const name = formatAddress(address)
    if (taken?.has(name)) continue
    const stamp = store.reserve(name, holder)
    if (stamp !== undefined) return reservedOf(request, range, { address, stamp })
    if (++tries === TRIES) taken = new Set(store.folder.names())
  }
  return undefined
}

function reservedOf(
  { holder, purpose }: ReserveRequest,
  range: RangeSet[number],
  { address, stamp }: { readonly address: IpAddress; readonly stamp: string },
): Reserved {
  return {
    lease: { address, prefixLength: range.subnet.prefixLength, gateway: range.gateway, range },
    entry: { address: formatAddress(address), ...holder, stamp, bootId: bootId(), purpose },
  }
}

/** The gateway counts as one of the set: that it cannot be had is said where it is asked for. */
function takeWish(wishes: IpAddress[], set: RangeSet): IpAddress | undefined {
  const i = wishes.findIndex(({ family, value }) =>
    set.some(({ first, last }) => family === first.family && first.value <= value && value <= last.value),
  )
  return i < 0 ? undefined : wishes.splice(i, 1)[0]
}

function inSet(set: RangeSet, text: string): RangeSet[number] | undefined {
  const address = parseAddress(text)
  return address === undefined ? undefined : rangeWith(set, address)
}

function duplicate({ address, containerID }: IndexEntry): TsnetError {
  return new TsnetError('TSNET_ADDRESS_TAKEN', `${address} has been allocated to ${containerID}, duplicate allocation is not allowed`, {
    cniCode: CNI_CODE.addressTaken,
    hint: 'Detach this container first (DEL)',
  })
}

function refuseWish(message: string): TsnetError {
  return new TsnetError('TSNET_REQUESTED_ADDRESS', message, { cniCode: CNI_CODE.invalidConfig })
}

function inRange(setIndex: number, cause: unknown): unknown {
  if (!(cause instanceof TsnetError)) return cause
  const { code, cniCode, hint } = cause
  return new TsnetError(code, `failed to allocate for range ${setIndex}: ${cause.message}`, { cniCode, cause, ...(hint !== undefined && { hint }) })
}
