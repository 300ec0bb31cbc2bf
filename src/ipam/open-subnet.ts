/** Opens subnet files, makes them, and brings their head in line with the configuration. */
import { join } from 'node:path'
import { CNI_CODE, TsnetError } from '../error.ts'
import { makeFolder } from '../sys/state-file.ts'
import { formatAddress, type IpAddress, parseAddress } from '../wire/ip-address.ts'
import type { HeldLease } from './lease.ts'
import { LeaseFile } from './lease-file.ts'
import { type RangeSet, rangeWith, spansOverlap } from './range.ts'
import { type OpenedFile, SubnetStore } from './store.ts'
import { checkOverlaps } from './subnet.ts'
import { bad, formatSet, type LeaseLine, parseSubnetText, type SubnetHead } from './subnet-file.ts'
import { SubnetIndex } from './subnet-index.ts'

export interface SubnetOptions {
  /** `<stateDir>/networks/<network>`; made, mode 0700, when it is missing. */
  readonly folder: string
  readonly network: string
  /** What this call may hand out. A set that the file's head does not have yet is added to it, in the place of sets that it overlaps. */
  readonly rangeSets: readonly RangeSet[]
  readonly recorded?: RecordedLeases
}

/**
 * Leases that are written down elsewhere. Asked where nothing vouches for the lines, after an edit, a kill, or harm to the file: a lease
 * that a truncated file has lost comes back before its address is handed out again.
 */
export type RecordedLeases = () => readonly HeldLease[]

/**
 * Opens a network's subnet file, and makes it when there is none. The caller holds the network's lock until the store is disposed of.
 * @throws TsnetError TSNET_SUBNET (CNI code 7) when the wanted range sets overlap
 * @throws TsnetError TSNET_SUBNET_FILE (CNI code 5) when the file cannot be read, or is not of the format: then it names file and line
 */
export function openSubnet(options: SubnetOptions): SubnetStore {
  const path = join(options.folder, 'subnet')
  checkOverlaps(options.rangeSets)
  const head = { network: options.network, rangeSets: options.rangeSets }
  let opened = open(options.folder, { expected: head, recorded: options.recorded })
  if (opened === undefined) {
    makeFolder(options.folder)
    LeaseFile.replace(path, head, restore([], false, options.recorded?.() ?? []))
  } else {
    if (opened.head.network !== options.network) {
      opened.file[Symbol.dispose]()
      throw bad(path, 2, `it is of network "${opened.head.network}", not of "${options.network}"`)
    }
    const recorded = opened.head === head ? [] : opened.head.rangeSets.map(formatSet)
    if (opened.head === head || options.rangeSets.every((set) => recorded.includes(formatSet(set)))) return new SubnetStore(opened, options.rangeSets)
    extendHead(path, head, opened)
  }
  opened = open(options.folder, { expected: head })
  if (opened === undefined) throw new TsnetError('TSNET_SUBNET_FILE', `Subnet file "${path}" vanished while it was opened`, { cniCode: CNI_CODE.io })
  return new SubnetStore(opened, options.rangeSets)
}

/**
 * Opens the subnet file of a network whose configuration is not at hand: to release, list, or hand out what its head names.
 * @param recorded Not for a caller that only looks: what is missing is written.
 * @returns The store, with the range sets of the head, or undefined when the network has no subnet file.
 * @throws TsnetError TSNET_SUBNET_FILE
 */
export function openExistingSubnet(folder: string, recorded?: RecordedLeases): SubnetStore | undefined {
  const opened = open(folder, { recorded })
  return opened === undefined ? undefined : new SubnetStore(opened, opened.head.rangeSets)
}

/** @returns Network and range sets of an existing subnet file, or undefined when there is none. @throws TsnetError TSNET_SUBNET_FILE */
export function readHead(folder: string): SubnetHead | undefined {
  using store = openExistingSubnet(folder)
  return store?.head
}

interface Opening {
  readonly expected?: SubnetHead
  readonly recorded?: RecordedLeases | undefined
}

/** Opens the file; where nothing vouches for its lines it is read whole, and written anew if a person left it out of line. */
function open(folder: string, opening: Opening): OpenedFile | undefined {
  const path = join(folder, 'subnet')
  const file = LeaseFile.open(path)
  if (file === undefined) return undefined
  try {
    const indexFolder = join(folder, 'index')
    const stamp = file.stamp()
    const state = SubnetIndex.readState(indexFolder, stamp)
    if (state === undefined) {
      const text = parseSubnetText(file.readAll(), path)
      const lines = opening.recorded === undefined ? text.lines : restore(text.lines, text.cut, opening.recorded())
      if (!text.aligned || lines !== text.lines) {
        file[Symbol.dispose]()
        LeaseFile.replace(path, text, lines)
        return open(folder, { ...opening, recorded: undefined })
      }
    }
    return { indexFolder, file, head: file.readHead(stamp, opening.expected), state }
  } catch (error) {
    file[Symbol.dispose]()
    throw error
  }
}

/**
 * @param cut Whether the last line may be cut short.
 * @param recorded Leases that are written down elsewhere.
 * @returns The same lines when they have all of them; a lease that is another's by now stays with that one
 */
export function restore(lines: readonly LeaseLine[], cut: boolean, recorded: readonly HeldLease[]): readonly LeaseLine[] {
  const byAddress = new Map(lines.map((line) => [line.address, line]))
  const uncertain = cut ? lines.at(-1) : undefined
  let lost = false
  for (const lease of recorded) {
    const address = formatAddress(lease.address)
    const line = byAddress.get(address)
    if (line?.kind === 'leased' && (line.owner === lease.owner || line !== uncertain)) continue
    byAddress.set(address, { kind: 'leased', address, owner: lease.owner })
    lost = true
  }
  return lost ? [...byAddress.values()] : lines
}

/** Writes the file anew with the wanted sets first, and with those old sets that they do not overlap and that still have a lease. */
function extendHead(path: string, wanted: SubnetHead, opened: OpenedFile): void {
  const { file, head } = opened
  const lines: { readonly content: LeaseLine; readonly address: IpAddress | undefined }[] = []
  file.forEach((content) => lines.push({ content, address: parseAddress(content.address) }))
  file[Symbol.dispose]()
  const fresh = wanted.rangeSets.flat()
  const kept = head.rangeSets.filter((set) => {
    if (set.some((range) => fresh.some((other) => spansOverlap(range, other)))) return false
    return lines.some(({ content, address }) => content.kind === 'leased' && address !== undefined && rangeWith(set, address) !== undefined)
  })
  const rangeSets = [...wanted.rangeSets, ...kept]
  const ranges = rangeSets.flat()
  const stay = lines.filter(
    ({ content, address }) => content.kind === 'leased' || (address !== undefined && rangeWith(ranges, address) !== undefined),
  )
  LeaseFile.replace(
    path,
    { network: wanted.network, rangeSets },
    stay.map(({ content }) => content),
  )
}
