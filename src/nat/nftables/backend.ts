/**
 * The nftables backend, native: no program is run. Every change is one transaction that the kernel takes only if nobody
 * changed any rule since it was looked at; else it is looked at again. So what another owns is never removed.
 */
import { CNI_CODE, TsnetError } from '../../error.ts'
import {
  addElements,
  deleteElements,
  findElement,
  hasTable,
  listElements,
  listRuleChains,
  openNftables,
  transactFor,
} from '../../netlink/nftables.ts'
import type { NetlinkSocket, Request } from '../../netlink/socket.ts'
import type { SetElement } from '../../wire/nftables.ts'
import type { Backend, PendingChange, RuleChange, RulePart } from '../backend.ts'
import { commentFor, commentOf, elementsOf, type PlacedElement } from './element.ts'
import { SETS, TABLE, USER_CHAIN } from './ruleset.ts'
import { declareTable, deleteTable, ruleChains } from './table.ts'

const NOTHING: RulePart = { networks: [], attachments: [] }

export const nftables: Backend = {
  name: 'nftables',
  ensureAvailable,
  // What `auto` ends with when nothing else is in use.
  isInUse: () => false,
  startChange,
  removeOwner: (owner) => {
    using nft = openNftables()
    const comment = commentFor(owner)
    transactFor(nft, () => (hasTable(nft, TABLE) ? deleteMarked(nft, comment) : []))
  },
  findMissing: (part) => {
    using nft = openNftables()
    if (!hasTable(nft, TABLE)) return [`table inet ${TABLE}`]
    const rules = rulesAreWhole(nft) ? [] : [`rules of the table inet ${TABLE}`]
    return [
      ...rules,
      ...elementsOf(part)
        .filter((placed) => !isThere(nft, placed))
        .map(describeElement),
    ]
  },
}

/** @throws TsnetError with CNI code 50 when the kernel has no nf_tables */
function ensureAvailable(): void {
  try {
    using nft = openNftables()
    hasTable(nft, TABLE)
  } catch (cause) {
    throw new TsnetError('TSNET_NO_NFTABLES', 'Cannot write the rules: the kernel has no nf_tables', {
      cniCode: CNI_CODE.notAvailable,
      hint: 'Use "backend": "iptables", or load the module nf_tables',
      cause,
    })
  }
}

/** All is done when it returns, but for the closing of the socket, which waits for RCU after a delete: the caller has better to do meanwhile. */
function startChange(wanted: RuleChange): PendingChange {
  const nft = openNftables()
  try {
    transactFor(nft, () => requestsFor(nft, wanted))
  } catch (error) {
    nft[Symbol.dispose]()
    throw error
  }
  return { finish: () => nft[Symbol.dispose]() }
}

function requestsFor(nft: NetlinkSocket, { add = NOTHING, expect = NOTHING, remove = NOTHING, base, dropIn }: RuleChange): readonly Request[] {
  const wanted = elementsOf(add)
  const unwanted = elementsOf(remove).filter((placed) => !wanted.some((other) => samePlace(placed, other)))
  const standing = hasTable(nft, TABLE)
  if (wanted.length === 0 && base !== 'ensure') {
    if (!standing) return []
    const all = base === 'drop' && (dropIn === undefined || dropIn.length === 2)
    return all && isUnusedBut(nft, unwanted) ? deleteTable() : deletePresent(nft, unwanted)
  }
  const whole = standing && (base === 'keep' || rulesAreWhole(nft))
  const needed = whole && standing && base === 'keep' ? wanted : [...wanted, ...elementsOf(expect)]
  return [
    ...(whole ? [] : declareTable()),
    ...(standing ? deletePresent(nft, unwanted) : []),
    ...(standing ? replace(nft, needed) : grouped(needed, addElements)),
  ]
}

/** What stands in the place with other data is of an owner that is gone: the ledger has given the port to this one. */
function replace(nft: NetlinkSocket, wanted: readonly PlacedElement[]): readonly Request[] {
  const stale: PlacedElement[] = []
  const missing = wanted.filter(({ set, element }) => {
    const present = findElement(nft, TABLE, set, keyOf(element))
    if (present !== undefined && sameElement(element, present)) return false
    if (present !== undefined) stale.push({ set, element: present })
    return true
  })
  return [...grouped(stale, deleteElements), ...grouped(missing, addElements)]
}

/** Deletes elements that are there and ours: one that carries another's comment stays. */
function deletePresent(nft: NetlinkSocket, unwanted: readonly PlacedElement[]): readonly Request[] {
  const ours = unwanted.filter(({ set, element }) => {
    const present = findElement(nft, TABLE, set, keyOf(element))
    return present !== undefined && sameKey(present, element) && commentOf(present) === commentOf(element)
  })
  return grouped(ours, deleteElements)
}

function deleteMarked(nft: NetlinkSocket, comment: string): readonly Request[] {
  return SETS.flatMap(({ name }) =>
    deleteElements(
      TABLE,
      name,
      listElements(nft, TABLE, name)
        .filter((element) => commentOf(element) === comment)
        .map(keyOf),
    ),
  )
}

/** Whether nothing of others would go with the table: no other network's elements, no rules of the administrator's. */
function isUnusedBut(nft: NetlinkSocket, ours: readonly PlacedElement[]): boolean {
  if (listRuleChains(nft, TABLE).includes(USER_CHAIN)) return false
  const withComment = (placed: PlacedElement) => `${placeOf(placed)} ${commentOf(placed.element)}`
  const known = new Set(ours.map(withComment))
  return SETS.every(({ name }) => listElements(nft, TABLE, name).every((element) => known.has(withComment({ set: name, element }))))
}

/** The rules are constant: that each chain has as many as it shall says whether somebody flushed it. */
function rulesAreWhole(nft: NetlinkSocket): boolean {
  const present = listRuleChains(nft, TABLE)
    .filter((chain) => chain !== USER_CHAIN)
    .sort()
  const wanted = [...ruleChains()].sort()
  return present.length === wanted.length && present.every((chain, i) => chain === wanted[i])
}

function isThere(nft: NetlinkSocket, { set, element }: PlacedElement): boolean {
  const present = findElement(nft, TABLE, set, keyOf(element))
  return present !== undefined && sameElement(element, present)
}

function grouped(placed: readonly PlacedElement[], requests: typeof addElements): readonly Request[] {
  const sets = new Map<string, SetElement[]>()
  for (const { set, element } of placed) sets.set(set, [...(sets.get(set) ?? []), requests === deleteElements ? keyOf(element) : element])
  return [...sets].flatMap(([set, elements]) => requests(TABLE, set, elements))
}

function keyOf({ key, keyEnd }: SetElement): SetElement {
  return { ...(key && { key }), ...(keyEnd && { keyEnd }) }
}

function placeOf({ set, element }: PlacedElement): string {
  return `${set} ${hex(element.key?.value)} ${hex(element.keyEnd?.value)}`
}

function samePlace(a: PlacedElement, b: PlacedElement): boolean {
  return placeOf(a) === placeOf(b)
}

/** An interval is found by its first key, which may lie in another one. */
function sameKey(a: SetElement, b: SetElement): boolean {
  return hex(a.key?.value) === hex(b.key?.value) && hex(a.keyEnd?.value) === hex(b.keyEnd?.value)
}

function sameElement(a: SetElement, b: SetElement): boolean {
  return (
    sameKey(a, b) && hex(a.data?.value) === hex(b.data?.value) && a.data?.verdict?.chain === b.data?.verdict?.chain && commentOf(a) === commentOf(b)
  )
}

function describeElement({ set, element }: PlacedElement): string {
  return `element ${hex(element.key?.value)} of "${set}"${element.userdata === undefined ? '' : ` for ${commentOf(element)}`}`
}

function hex(bytes: Uint8Array | undefined): string {
  return bytes === undefined ? '' : Buffer.from(bytes).toString('hex')
}
