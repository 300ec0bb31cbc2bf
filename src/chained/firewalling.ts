/** Lets the addresses of one attachment through the host's firewall, takes that back, and says what is missing. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { ValidAttachment } from '../cni/valid-attachments.ts'
import { addToZone, removeFromZone, sourcesInZone } from '../nat/firewalld.ts'
import { editTable, readTable } from '../nat/iptables/table-edit.ts'
import type { PlanContext } from '../plan/attach.ts'
import { Attempts } from '../plan/detach.ts'
import { type Owner, ownerText } from '../plan/owner.ts'
import type { StateFolder } from '../plan/state-folder.ts'
import { UndoStack } from '../plan/undo.ts'
import { type FileLock, lockFile } from '../sys/lock.ts'
import type { Netns } from '../sys/netns.ts'
import { type Family, formatAddress, formatPrefix, type IpAddress, parseAddress, singlePrefix } from '../wire/ip-address.ts'
import { holdAddress, isHeldByAnother, releaseAddress } from './address-holders.ts'
import { AttachmentBook } from './attachment-book.ts'
import { closeLines, closePresentLines, type Isolation, isIsolated, joinLines, missingFirewallLines, openLines } from './firewall-rules.ts'
import { collectStale } from './garbage.ts'

const TYPE = 'firewall'
const LOCK_TIMEOUT_MS = 30_000
const FAMILIES: readonly Family[] = [4, 6]

export type FirewallBackend = 'iptables' | 'firewalld'

export interface FirewallOptions {
  readonly backend: FirewallBackend
  readonly adminChain: string
  /** Of firewalld. */
  readonly zone: string
  readonly isolation?: Isolation
}

/** What an attachment's book keeps. */
interface FirewallRecord extends FirewallOptions {
  readonly addresses: readonly string[]
  /** Whether the bridge was kept apart before, by nobody that is known: by another program, or for those who came while it was so. */
  readonly foreign?: true
}

export interface Opening {
  readonly owner: Owner
  readonly netns: Netns
  readonly addresses: readonly IpAddress[]
  readonly options: FirewallOptions
}

/** @throws TsnetError when anything failed; then nothing is left of it */
export function openFirewall({ owner, netns, addresses, options }: Opening, context: PlanContext): void {
  const { state } = context
  const book = bookOf(state)
  using _lock = lockFirewall(state)
  if (book.read(owner) !== undefined) closeLocked(owner, [], context)
  using undo = new UndoStack(context.warn)
  undo.push('firewall', () => closeLocked(owner, [], context))
  const others = options.isolation === undefined ? [] : isolatedOn(options.isolation.bridge, state)
  const write = (foreign: boolean) =>
    book.write(owner, netns, { ...options, addresses: addresses.map(formatAddress), ...(foreign && { foreign: true }) })
  // Until the rules have been looked at, they are taken for another program's.
  write(options.isolation !== undefined && (others.length === 0 || others.some(([, { foreign }]) => foreign === true)))
  for (const address of addresses) holdAddress(state, address, owner)
  for (const [family, own] of byFamily(addresses)) {
    const { isolation, adminChain, backend } = options
    if (backend === 'firewalld' && isolation === undefined) continue
    const rules = { addresses: backend === 'iptables' ? own : [], adminChain, ...(isolation && { isolation }) }
    editTable(family, 'filter', {
      work: (chains) => {
        if (isolation !== undefined && others.length === 0 && !isIsolated(isolation, chains)) write(false)
        return openLines(rules, chains)
      },
    })
  }
  if (options.backend === 'firewalld') addToZone(options.zone, addresses.map(sourceOf))
  undo.commit()
}

/**
 * Takes it back, by the book, or for the addresses that the request knows where there is none.
 * @throws ErrorList with everything that could not be removed; the book then stays
 */
export function closeFirewall(owner: Owner, known: readonly IpAddress[], context: PlanContext): void {
  // No other call is about an attachment that nobody knows.
  if (known.length === 0 && bookOf(context.state).read(owner) === undefined) return bookOf(context.state).remove(owner)
  using _lock = lockFirewall(context.state)
  closeLocked(owner, known, context)
}

/** @returns Whether firewalld was asked for the attachment, and will be to take it back. */
export function isInFirewalld(owner: Owner, state: StateFolder): boolean {
  return bookOf(state).read(owner)?.data.backend === 'firewalld'
}

/** @returns What should be there and is not, as text. */
export function missingInFirewall({ owner, addresses, options }: Omit<Opening, 'netns'>, state: StateFolder): readonly string[] {
  const record = bookOf(state).read(owner)?.data
  const { backend, adminChain, zone, isolation } = record ?? options
  if (backend === 'firewalld') {
    const present = sourcesInZone(zone)
    const missing = addresses.map(sourceOf).filter((source) => !present.includes(source))
    return missing.map((source) => `firewalld: ${source} in the zone "${zone}"`)
  }
  return byFamily(addresses).flatMap(([family, own]) =>
    missingFirewallLines({ addresses: own, adminChain, ...(isolation && { isolation }) }, readTable(family, 'filter'), record === undefined),
  )
}

/** For GC: closes the firewall for a network's attachments that are not listed. @throws ErrorList with everything that could not be removed */
export function collectFirewall(network: string, valid: readonly ValidAttachment[], context: PlanContext): void {
  collectStale(bookOf(context.state), { network, valid, takeBack: (owner) => closeFirewall(owner, [], context) })
}

function closeLocked(owner: Owner, known: readonly IpAddress[], { state }: PlanContext): void {
  const errors = new Attempts()
  const record = bookOf(state).read(owner)?.data
  const addresses = record === undefined ? known : record.addresses.flatMap((text) => parseAddress(text) ?? [])
  const own = addresses.filter((address) => !isHeldByAnother(state, address, owner))
  for (const [family, some] of byFamily(own)) {
    const edit = { blind: closeLines(some), work: (chains: Parameters<typeof closePresentLines>[1]) => closePresentLines(some, chains) }
    if (record?.backend !== 'firewalld') errors.try(() => editTable(family, 'filter', edit))
  }
  if (record?.backend === 'firewalld') errors.try(() => removeFromZone(record.zone, own.map(sourceOf)))
  if (record?.isolation !== undefined && !isolatesFor(owner, record.isolation, state)) errors.try(() => endIsolation(record, addresses))
  for (const address of own) releaseAddress(state, address, owner)
  errors.finish(`Cannot close the firewall for "${ownerText(owner)}"`)
  bookOf(state).remove(owner)
}

function endIsolation({ isolation, foreign }: FirewallRecord, addresses: readonly IpAddress[]): void {
  if (isolation === undefined || foreign === true) return
  for (const [family] of byFamily(addresses)) editTable(family, 'filter', { work: (chains) => joinLines(isolation.bridge, chains) })
}

/** @returns Whether another attachment needs the bridge kept apart. */
function isolatesFor(owner: Owner, { bridge }: Isolation, state: StateFolder): boolean {
  return isolatedOn(bridge, state).some(([other]) => ownerText(other) !== ownerText(owner))
}

function isolatedOn(bridge: string, state: StateFolder): readonly (readonly [Owner, FirewallRecord])[] {
  const book = bookOf(state)
  return book.networks().flatMap((network) =>
    book.owners(network).flatMap((owner) => {
      const record = book.read(owner)?.data
      return record?.isolation?.bridge === bridge ? [[owner, record] as const] : []
    }),
  )
}

/** Rules of an address, and of a bridge, may be those of several attachments, one of which is coming while another goes. */
function lockFirewall(state: StateFolder): FileLock {
  const folder = join(state.root, 'chained')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  return lockFile(join(folder, 'firewall.lock'), { timeoutMs: state.patience?.lockTimeoutMs ?? LOCK_TIMEOUT_MS })
}

function bookOf(state: StateFolder): AttachmentBook<FirewallRecord> {
  return new AttachmentBook(state, TYPE)
}

function sourceOf(address: IpAddress): string {
  return formatPrefix(singlePrefix(address))
}

function byFamily(addresses: readonly IpAddress[]): readonly (readonly [Family, readonly IpAddress[]])[] {
  return FAMILIES.map((family) => [family, addresses.filter((address) => address.family === family)] as const).filter(([, own]) => own.length > 0)
}
