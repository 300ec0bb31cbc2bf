/**
 * Lets guarded ports send only what is their own. It is the same whichever backend writes the network's other rules, and runs
 * no program. Every change is one transaction for exactly the state that was looked at, so nothing of another owner is removed.
 */
import { CNI_CODE, isErrno, KernelError, TsnetError } from '../../error.ts'
import {
  addElements,
  deleteElements,
  findElement,
  hasTable,
  listElements,
  listRuleChains,
  openNftables,
  transact,
  transactFor,
} from '../../netlink/nftables.ts'
import type { NetlinkSocket, Request } from '../../netlink/socket.ts'
import type { SetElement } from '../../wire/nftables.ts'
import { commentFor, commentOf, type PlacedElement } from '../nftables/element.ts'
import { declareTable, deleteTable, ruleChains } from '../nftables/table.ts'
import { type GuardedPort, guardedElement, isOfPort, ownElements, type SourceGuard, sharedElements } from './element.ts'
import { SOURCE_GUARD } from './ruleset.ts'

const TITLE = `table bridge ${SOURCE_GUARD.name}`

/**
 * Has the kernel look at the whole table in a transaction that ends with its deletion, so that nothing comes into being.
 * @throws TsnetError with CNI code 50 when the kernel cannot filter frames of bridges
 */
export function ensureGuardAvailable(): void {
  using nft = openNftables()
  const trial = { ...SOURCE_GUARD, name: `${SOURCE_GUARD.name}-trial` }
  explained(() => transact(nft, [...declareTable(trial), ...deleteTable(trial)]))
}

/**
 * Guards an attachment's port, which may already be guarded, whole or in part. The table and its rules are made good.
 * @throws TsnetError with CNI code 50 when the kernel cannot filter frames of bridges
 */
export function guardSources(guard: SourceGuard): void {
  using nft = openNftables()
  explained(() =>
    transactFor(nft, () => {
      if (!hasTable(nft, SOURCE_GUARD)) return [...declareTable(SOURCE_GUARD), ...grouped(ownElements(guard), addElements)]
      return [...(rulesAreWhole(nft) ? [] : declareTable(SOURCE_GUARD)), ...replace(nft, wantedOf(nft, guard))]
    }),
  )
}

/**
 * @param find Tells what was guarded. It is asked again when rules have changed since, so that no sibling is missed.
 * @param drop Whether the table goes too if no port is left in it.
 */
export function unguardSources(find: () => SourceGuard, drop: boolean): void {
  withTable((nft) => {
    const guard = find()
    const shared = guard.siblings.flatMap((sibling) => sharedElements(guard.port, sibling))
    return removal(nft, presentOf(nft, [...ownElements(guard), ...shared]), drop)
  })
}

/** Removes every element of a port and of its owner, for when nobody knows any more which there were. @param drop As for unguardSources */
export function unguardOwner(port: Pick<GuardedPort, 'owner' | 'name'>, drop: boolean): void {
  const comment = commentFor(port.owner)
  withTable((nft) => {
    const unwanted = allElements(nft).filter((placed) => commentOf(placed.element) === comment || isOfPort(placed, port))
    return removal(nft, unwanted, drop)
  })
}

/** Deletes the table if no port is left in it. */
export function dropUnusedGuard(): void {
  withTable((nft) => removal(nft, [], true))
}

/** @returns What should be there and is not, as text. */
export function findUnguarded(guard: SourceGuard): readonly string[] {
  using nft = openNftables()
  if (!hasTable(nft, SOURCE_GUARD)) return [TITLE]
  const missing = wantedOf(nft, guard).filter((placed) => !isThere(nft, placed))
  return [
    ...(rulesAreWhole(nft) ? [] : [`rules of the ${TITLE}`]),
    ...missing.map((placed) => `element of "${placed.set}" for ${commentOf(placed.element)}`),
  ]
}

/** What it shares with a sibling that is just being detached must not outlive that one. */
function wantedOf(nft: NetlinkSocket, guard: SourceGuard): readonly PlacedElement[] {
  const living = guard.siblings.filter((sibling) => isThere(nft, guardedElement(sibling)))
  return [...ownElements(guard), ...living.flatMap((sibling) => sharedElements(guard.port, sibling))]
}

/** The socket is closed at the end, which waits for RCU after a deletion. */
function withTable(work: (nft: NetlinkSocket) => readonly Request[]): void {
  using nft = openNftables()
  transactFor(nft, () => (hasTable(nft, SOURCE_GUARD) ? work(nft) : []))
}

function removal(nft: NetlinkSocket, unwanted: readonly PlacedElement[], drop: boolean): readonly Request[] {
  const places = new Set(unwanted.map(placeOf))
  const last = drop && allElements(nft).every((placed) => places.has(placeOf(placed)))
  return last ? deleteTable(SOURCE_GUARD) : grouped(unwanted, deleteElements)
}

/** What stands under the same key with another mark is of an owner that is gone. */
function replace(nft: NetlinkSocket, wanted: readonly PlacedElement[]): readonly Request[] {
  const missing = wanted.filter((placed) => !isThere(nft, placed))
  const stale = missing.filter((placed) => find(nft, placed) !== undefined)
  return [...grouped(stale, deleteElements), ...grouped(missing, addElements)]
}

/** @returns Those that are there and carry the same mark. */
function presentOf(nft: NetlinkSocket, placed: readonly PlacedElement[]): readonly PlacedElement[] {
  return placed.filter((one) => {
    const present = find(nft, one)
    return present !== undefined && commentOf(present) === commentOf(one.element)
  })
}

function isThere(nft: NetlinkSocket, placed: PlacedElement): boolean {
  const present = find(nft, placed)
  return present !== undefined && commentOf(present) === commentOf(placed.element)
}

function find(nft: NetlinkSocket, { set, element }: PlacedElement): SetElement | undefined {
  return findElement(nft, SOURCE_GUARD, set, keyOf(element))
}

function allElements(nft: NetlinkSocket): readonly PlacedElement[] {
  return SOURCE_GUARD.sets.flatMap(({ name: set }) => listElements(nft, SOURCE_GUARD, set).map((element) => ({ set, element })))
}

/** The rules are constant: that each chain has as many as it shall says whether somebody flushed it. */
function rulesAreWhole(nft: NetlinkSocket): boolean {
  const sorted = (chains: readonly string[]) => [...chains].sort().join(' ')
  return sorted(listRuleChains(nft, SOURCE_GUARD)) === sorted(ruleChains(SOURCE_GUARD))
}

function grouped(placed: readonly PlacedElement[], requests: typeof addElements): readonly Request[] {
  return SOURCE_GUARD.sets.flatMap(({ name }) => {
    const elements = placed.filter(({ set }) => set === name).map(({ element }) => (requests === deleteElements ? keyOf(element) : element))
    return requests(SOURCE_GUARD, name, elements)
  })
}

/** Names what a kernel lacks that answers so: the family, or its chains of type filter. @see net/netfilter/nf_tables_api.c */
export function explained(act: () => void): void {
  try {
    act()
  } catch (cause) {
    const creating = cause instanceof KernelError && cause.operation.startsWith('create the ')
    if (!creating || !isErrno(cause, 'EOPNOTSUPP', 'ENOTSUP', 'EAFNOSUPPORT', 'ENOENT')) throw cause
    throw new TsnetError('TSNET_NO_BRIDGE_FILTER', 'Cannot guard against forged sources: the kernel has no nf_tables for bridges', {
      cniCode: CNI_CODE.notAvailable,
      hint: 'Use a kernel with CONFIG_NF_TABLES_BRIDGE, or leave "macspoofchk" away',
      cause,
    })
  }
}

function keyOf({ key }: SetElement): SetElement {
  return key === undefined ? {} : { key }
}

function placeOf({ set, element }: PlacedElement): string {
  return `${set} ${Buffer.from(element.key?.value ?? []).toString('hex')}`
}
