/**
 * Who owns which host port, over all networks of the host:
 *
 *     <state>/ports/lock             flock, held for the length of a claim or release
 *     <state>/ports/tcp/31           claims on the ports 31*256 to 31*256+255, one a line: <first>-<last> <host address> <owner>
 *
 * A claim costs one small file, however many ports are published, and a range of 10,000 ports 40 of them. A claim counts
 * while its owner's attachment record exists, so that nothing that was killed can hold a port for ever.
 */
import { join } from 'node:path'
import { CNI_CODE, TsnetError } from '../error.ts'
import { lockFile } from '../sys/lock.ts'
import { makeFolder, readOwnFile, removeFile, replaceFile } from '../sys/state-file.ts'
import { formatAddress, parseAddress } from '../wire/ip-address.ts'
import type { HostPorts } from './host-ports.ts'
import { formatHostPort, type PublishedPort, portsConflict } from './model.ts'
import { chooseHostPort, nothingFree, readChoice } from './port-choice.ts'

const BUCKET_SHIFT = 8

export interface PortLedger {
  /** `<state>/ports`. */
  readonly folder: string
  /** Whether the attachment that a claim names still exists. */
  readonly exists: (owner: string) => boolean
  /** Whether the two are attachments of one container. */
  readonly siblings: (a: string, b: string) => boolean
}

interface Claim {
  readonly owner: string
  readonly port: PublishedPort
}

/** Host ports that somebody wants. */
export interface PortClaim {
  /** Each is one host port, or range, in one or both families; 0 asks for a free one, the same number in both. */
  readonly wishes: readonly (readonly PublishedPort[])[]
  /** What the owner has already and keeps. */
  readonly keep?: readonly PublishedPort[]
  readonly host: HostPorts
  /** Hears what the owner gets before the ledger says so, and writes it down: a claim that no record names would stay for ever. */
  readonly onChosen: (ports: readonly PublishedPort[]) => void
}

/**
 * Claims the ports or none. Claims that the same owner left behind are taken over. A port that another attachment of the same
 * container has stays with that one: podman names a container's ports again for each further network.
 * @returns The ports of the wishes that are the owner's now, each with its number
 * @throws TsnetError with CNI code 103, naming the port and its owner, when another attachment or a process of the host has one;
 * 11 when none is free to be chosen; 7 for an address that the host has not
 */
export function claimPorts(ledger: PortLedger, owner: string, { wishes, keep = [], host, onChosen }: PortClaim): readonly PublishedPort[] {
  if (wishes.length === 0) {
    onChosen([])
    return []
  }
  using _lock = openLedger(ledger)
  const book = new Book(ledger, owner)
  const named = wishes.flat().filter((port) => port.hostPort > 0 && !book.isSiblings(port))
  for (const port of named) {
    const taken = host.firstTaken(port)
    if (taken !== undefined) throw host.refusal(port, taken)
  }
  const claimed = new Map<readonly PublishedPort[], readonly PublishedPort[]>(
    wishes.map((wish) => [wish, wish.filter((port) => named.includes(port))]),
  )
  const ours = () => [...keep, ...[...claimed.values()].flat()]
  for (const wish of wishes) if (wish[0]?.hostPort === 0) claimed.set(wish, choose(wish, ours(), { book, host }))
  const all = [...claimed.values()].flat()
  onChosen(all)
  book.write(ours())
  return all
}

/** Gives back what `owner` holds of these ports; ports that it does not hold are passed over. */
export function releasePorts(ledger: PortLedger, owner: string, ports: readonly PublishedPort[]): void {
  if (ports.length === 0) return
  using _lock = openLedger(ledger)
  for (const bucket of bucketsOf(ports)) {
    const claims = readBucket(ledger, bucket)
    const left = claims.filter((claim) => claim.owner !== owner || !ports.some((port) => portsConflict(port, claim.port)))
    if (left.length < claims.length) writeBucket(ledger, bucket, left)
  }
}

/** @returns Those of the ports that the ledger does not say are the owner's. */
export function unclaimedPorts(ledger: PortLedger, owner: string, ports: readonly PublishedPort[]): readonly PublishedPort[] {
  const isClaimed = (port: PublishedPort, bucket: string) =>
    readBucket(ledger, bucket).some((claim) => claim.owner === owner && formatHostPort(claim.port) === formatHostPort(port))
  return ports.filter((port) => !bucketsOf([port]).every((bucket) => isClaimed(port, bucket)))
}

/**
 * Writes down claims that somebody deleted from the ledger. No process is asked, since the ports have been published all the time.
 * @param ports All that the owner has.
 * @returns A refusal for each that another attachment has claimed meanwhile; the others are the owner's
 */
export function restoreClaims(ledger: PortLedger, owner: string, ports: readonly PublishedPort[]): readonly TsnetError[] {
  using _lock = openLedger(ledger)
  const book = new Book(ledger, owner)
  const holders = new Map(ports.map((port) => [port, book.holderOf(port)]))
  book.write(ports.filter((port) => holders.get(port) === undefined))
  return [...holders].flatMap(([port, holder]) => (holder === undefined ? [] : [portTaken(port, holder)]))
}

/** Whom a port may belong to: other attachments, processes of the host. */
interface Authorities {
  readonly book: Book
  readonly host: HostPorts
}

/** @returns The wish with a number that is free in all its families. */
function choose(wish: readonly PublishedPort[], ours: readonly PublishedPort[], { book, host }: Authorities): readonly PublishedPort[] {
  const [port] = wish
  if (port === undefined) return []
  const choice = readChoice()
  const at = (hostPort: number, count = port.count) => wish.map((one) => ({ ...one, hostPort, count }))
  const chosen = chooseHostPort({
    choice,
    count: port.count,
    start: Math.random(),
    isClaimed: (number) => at(number, 1).some((one) => book.holderOf(one) !== undefined || ours.some((other) => portsConflict(other, one))),
    firstTaken: (first) => {
      const taken = at(first).flatMap((one) => host.firstTaken(one) ?? [])
      return taken.length === 0 ? undefined : Math.max(...taken)
    },
  })
  if (chosen === undefined) throw nothingFree(port, choice)
  return at(chosen)
}

/** The claims of all others, read as far as they are needed; for as long as the ledger is locked. */
class Book {
  readonly #ledger: PortLedger
  readonly #owner: string
  readonly #buckets = new Map<string, readonly Claim[]>()
  readonly #living = new Map<string, boolean>()

  constructor(ledger: PortLedger, owner: string) {
    this.#ledger = ledger
    this.#owner = owner
  }

  /** @returns Whose attachment has it, or a part of it. */
  holderOf(port: PublishedPort): string | undefined {
    for (const bucket of bucketsOf([port])) {
      const claim = this.#claimsIn(bucket).find((other) => portsConflict(other.port, port) && this.#lives(other.owner))
      if (claim !== undefined) return claim.owner
    }
    return undefined
  }

  /** @returns Whether another attachment of the same container has it. @throws TsnetError when one of another container has */
  isSiblings(port: PublishedPort): boolean {
    const holder = this.holderOf(port)
    if (holder !== undefined && !this.#ledger.siblings(this.#owner, holder)) throw portTaken(port, holder)
    return holder !== undefined
  }

  /** Writes that the owner has these ports, and no others in the same buckets. */
  write(ports: readonly PublishedPort[]): void {
    for (const bucket of bucketsOf(ports)) {
      const ours = ports.filter((port) => bucketsOf([port]).includes(bucket)).map((port) => ({ owner: this.#owner, port }))
      writeBucket(this.#ledger, bucket, [...this.#claimsIn(bucket).filter((claim) => this.#lives(claim.owner)), ...ours])
    }
  }

  #claimsIn(bucket: string): readonly Claim[] {
    const known = this.#buckets.get(bucket) ?? readBucket(this.#ledger, bucket).filter((claim) => claim.owner !== this.#owner)
    this.#buckets.set(bucket, known)
    return known
  }

  #lives(owner: string): boolean {
    const known = this.#living.get(owner) ?? this.#ledger.exists(owner)
    this.#living.set(owner, known)
    return known
  }
}

function openLedger(ledger: PortLedger): Disposable {
  makeFolder(ledger.folder)
  return lockFile(join(ledger.folder, 'lock'))
}

/** @returns File names below the ledger's folder, such as `tcp/31`, each once. */
function bucketsOf(ports: readonly PublishedPort[]): readonly string[] {
  const buckets = new Set<string>()
  for (const { protocol, hostPort, count } of ports) {
    for (let bucket = hostPort >> BUCKET_SHIFT; bucket <= (hostPort + count - 1) >> BUCKET_SHIFT; bucket++) buckets.add(`${protocol}/${bucket}`)
  }
  return [...buckets]
}

function readBucket(ledger: PortLedger, bucket: string): readonly Claim[] {
  const [protocol] = bucket.split('/') as [PublishedPort['protocol']]
  const text = readOwnFile(join(ledger.folder, bucket)) ?? ''
  return text.split('\n').flatMap((line) => parseClaim(protocol, line) ?? [])
}

function writeBucket(ledger: PortLedger, bucket: string, claims: readonly Claim[]): void {
  const path = join(ledger.folder, bucket)
  if (claims.length === 0) return removeFile(path)
  // A claim ends with the boot: what a loss of power takes of it is missed by nobody.
  replaceFile(path, claims.map(formatClaim).join(''), false)
}

function formatClaim({ owner, port }: Claim): string {
  const any = port.address.family === 4 ? '0.0.0.0' : '::'
  return `${port.hostPort}-${port.hostPort + port.count - 1} ${port.hostAddress ? formatAddress(port.hostAddress) : any} ${owner}\n`
}

/** The container's side is not kept: the claim only says who has the host's. */
function parseClaim(protocol: PublishedPort['protocol'], line: string): Claim | undefined {
  const [, first, last, host, owner] = /^(\d{1,5})-(\d{1,5}) (\S+) (\S+)$/.exec(line) ?? []
  const address = host === undefined ? undefined : parseAddress(host)
  if (address === undefined || owner === undefined) return undefined
  const hostAddress = address.value !== 0n && { hostAddress: address }
  const hostPort = Number(first)
  return { owner, port: { protocol, ...hostAddress, hostPort, count: Number(last) - hostPort + 1, address, containerPort: 1 } }
}

function portTaken(port: PublishedPort, owner: string): TsnetError {
  return new TsnetError('TSNET_PORT_TAKEN', `Cannot publish ${formatHostPort(port)}: attachment "${owner}" has it`, {
    cniCode: CNI_CODE.hostPortTaken,
    hint: 'Publish another host port, or detach that attachment first',
  })
}
