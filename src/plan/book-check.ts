/**
 * Compares the address book of a network with what it is about, records and living interfaces, and writes it again where it is wrong.
 * Where there is a doubt an address stays taken: one that is handed out twice does more harm than one that is not used.
 */
import { describe, TsnetError } from '../error.ts'
import { BY_HAND, type HeldLease, type LeaseOwner, leaseOwner } from '../ipam/lease.ts'
import { LeaseFile } from '../ipam/lease-file.ts'
import type { RangeSet } from '../ipam/range.ts'
import { salvage } from '../ipam/salvage.ts'
import { parseRangeSets } from '../ipam/subnet.ts'
import { type LeaseLine, parseSubnetText, type SubnetHead } from '../ipam/subnet-file.ts'
import { readOwnFile, replaceFile } from '../sys/state-file.ts'
import { containsAddress, formatAddress, formatPrefix, networkAddress, parsePrefix } from '../wire/ip-address.ts'
import { recordedLeases } from './address-book.ts'
import { listLiveOwners, liveLeases } from './live-leases.ts'
import { readNetwork } from './network.ts'
import { type Owner, ownerText } from './owner.ts'
import { listOwners, readRecord } from './record.ts'
import { lockNetwork, networkFolder, recordPath, type StateFolder } from './state-folder.ts'

/** Something that is wrong. */
export interface BookFault {
  readonly problem: string
  /** Whether writing the book again puts it right. */
  readonly repairable: boolean
  /** What else does. */
  readonly hint?: string
}

export interface BookCheck {
  readonly network: string
  /** The subnet file. */
  readonly file: string
  /** How many leases it has; after a repair, that it has then. */
  readonly leases: number
  readonly faults: readonly BookFault[]
}

/**
 * @param repair Whether to write the book again where that helps. A damaged one stays beside it as `subnet.damaged`.
 * @throws TsnetError when the lock cannot be had, or the book cannot be read or written at all
 */
export function checkBook(network: string, state: StateFolder, repair: boolean): BookCheck {
  using _lock = lockNetwork(state, network)
  const file = `${networkFolder(state, network)}/subnet`
  const book = readBook(file, network)
  const members = membersOf(network, state)
  if (book === undefined && members.owners.length === 0) return { network, file, leases: 0, faults: [] }
  const head = book?.head ?? headFor(network, state, members)
  const expected = members.leases.filter(({ address }) => isServed(head, address))
  const review = reviewLines(book?.lines ?? [], expected, new Set(members.owners.map(holderOf)))
  const faults = [...(book?.faults ?? [missing(file)]), ...review.faults, ...members.faults]
  const write = repair && faults.some(({ repairable }) => repairable)
  if (write && book?.damaged !== undefined) replaceFile(`${file}.damaged`, book.damaged)
  if (write) LeaseFile.replace(file, head, review.lines)
  const lines = write ? review.lines : (book?.lines ?? [])
  return { network, file, leases: lines.filter(({ kind }) => kind === 'leased').length, faults }
}

interface Book {
  readonly head?: SubnetHead
  readonly lines: readonly LeaseLine[]
  readonly faults: readonly BookFault[]
  /** The text, when not all of it can be read. */
  readonly damaged?: string
}

function readBook(file: string, network: string): Book | undefined {
  const text = readOwnFile(file)
  if (text === undefined) return undefined
  try {
    const { lines, ...head } = parseSubnetText(text, file)
    if (head.network === network) return { head, lines, faults: [] }
    return { lines: [], faults: [fault(`Subnet file "${file}" is of network "${head.network}"`)], damaged: text }
  } catch (error) {
    if (!(error instanceof TsnetError)) throw error
    const saved = salvage(text, file)
    const own = saved.head?.network === network ? saved : { lines: saved.lines }
    return { ...own, faults: [fault(describe(error))], damaged: text }
  }
}

interface Members {
  /** All that are attached, or were: by records that can be read or not, and by living interfaces. */
  readonly owners: readonly Owner[]
  readonly leases: readonly HeldLease[]
  readonly faults: readonly BookFault[]
}

function membersOf(network: string, state: StateFolder): Members {
  const recorded = listOwners(state, network)
  const unreadable = recorded.filter((owner) => readRecord(state, owner) === undefined)
  const unrecorded = listLiveOwners(network).filter((live) => !recorded.some((owner) => ownerText(owner) === ownerText(live)))
  const lost = [...unreadable, ...unrecorded]
  return {
    owners: [...recorded, ...unrecorded],
    leases: [...recordedLeases(state, network), ...liveLeases(lost)],
    faults: lost.map((owner) => ({
      problem: `The record "${recordPath(state, owner)}" ${unreadable.includes(owner) ? 'cannot be read' : 'is missing'}`,
      repairable: false,
      hint: `Detach the container and attach it again: tsnet detach ${owner.containerID} --network ${network}`,
    })),
  }
}

interface Review {
  readonly lines: readonly LeaseLine[]
  readonly faults: readonly BookFault[]
}

function reviewLines(lines: readonly LeaseLine[], expected: readonly HeldLease[], members: ReadonlySet<LeaseOwner>): Review {
  const wanted = new Map(expected.map(({ address, owner }) => [formatAddress(address), owner]))
  const kept = new Map<string, LeaseLine>()
  const faults: BookFault[] = []
  const sequence = 1 + lines.reduce((most, line) => (line.kind === 'free' ? Math.max(most, line.sequence) : most), 0)
  for (const line of lines) {
    const owner = wanted.get(line.address)
    const isHeld = line.kind === 'leased' && (members.has(line.owner) || line.owner === BY_HAND)
    if (line.kind === 'free' || isHeld || owner !== undefined) kept.set(line.address, line)
    else {
      faults.push(fault(`The lease of ${line.address} is of "${line.owner}", which does not exist`))
      kept.set(line.address, { kind: 'free', address: line.address, sequence })
    }
  }
  for (const [address, owner] of wanted) {
    const line = kept.get(address)
    if (line?.kind === 'leased' && line.owner === owner) continue
    if (line?.kind === 'leased' && members.has(line.owner)) {
      faults.push({
        ...fault(`The lease of ${address} is of "${line.owner}", and "${owner}" uses it too`),
        repairable: false,
        hint: 'Detach one of them and attach it again',
      })
      continue
    }
    faults.push(
      fault(
        line?.kind === 'leased'
          ? `The lease of ${address} is of "${line.owner}", which does not exist, instead of "${owner}"`
          : `The lease of ${address} for "${owner}" is missing`,
      ),
    )
    kept.set(address, { kind: 'leased', address, owner })
  }
  return { lines: [...kept.values()], faults }
}

/** The ranges that were configured are gone with the file: the next ADD writes its own again, and keeps the leases. */
function headFor(network: string, state: StateFolder, { owners }: Members): SubnetHead {
  const known = readNetwork(state, network)?.subnets ?? []
  const recorded = owners.flatMap((owner) => readRecord(state, owner)?.addresses.map(({ address }) => address) ?? [])
  const subnets = [...known, ...recorded].flatMap((text) => {
    const prefix = parsePrefix(text)
    return prefix === undefined ? [] : [formatPrefix({ address: networkAddress(prefix), prefixLength: prefix.prefixLength })]
  })
  const rangeSets = [...new Set(subnets)].flatMap((subnet): readonly RangeSet[] => parseRangeSets({ subnet }))
  return { network, rangeSets }
}

/** What a container has beside its leases is nobody's business here. */
function isServed({ rangeSets }: SubnetHead, address: HeldLease['address']): boolean {
  return rangeSets.flat().some(({ subnet }) => containsAddress(subnet, address))
}

function holderOf({ containerID, ifname }: Owner): LeaseOwner {
  return leaseOwner(containerID, ifname)
}

function missing(file: string): BookFault {
  return fault(`Subnet file "${file}" is missing`)
}

function fault(problem: string): BookFault {
  return { problem, repairable: true }
}
