/** The leases of an open subnet file. The text is the truth; the index beside it only spares reading it. */
import { CNI_CODE, TsnetError } from '../error.ts'
import { adviceFor } from '../sys/state-file.ts'
import { formatAddress, type IpAddress, parseAddress } from '../wire/ip-address.ts'
import { IndexBroken } from './index-files.ts'
import type { HeldLease, Lease, LeaseOwner, LeaseStore } from './lease.ts'
import type { LeaseFile } from './lease-file.ts'
import { addressOfSlot, formatRangeSet, formatSpan, type Range, type RangeSet, rangeWith, slotOf, spansOverlap } from './range.ts'
import { formatSet, type SubnetHead } from './subnet-file.ts'
import { SubnetIndex } from './subnet-index.ts'

/** Never-used addresses of a range that go before released ones. */
const FRESH_SLOTS = 65536

export interface OpenedFile {
  /** `index` of the network's folder. */
  readonly indexFolder: string
  readonly file: LeaseFile
  readonly head: SubnetHead
  /** Of the index, when it describes this very file. */
  readonly state: Buffer | undefined
}

/** An open subnet file. Owns its fds. */
export class SubnetStore implements LeaseStore {
  readonly head: SubnetHead
  #indexFolder: string
  #file: LeaseFile
  #sets: readonly RangeSet[]
  #ranges: readonly Range[]
  #current: SubnetIndex | undefined

  /** @param opened Passes into the store's hands. @param rangeSets What may be handed out, each a set of the head. */
  constructor(opened: OpenedFile, rangeSets: readonly RangeSet[]) {
    this.#indexFolder = opened.indexFolder
    this.head = opened.head
    this.#file = opened.file
    this.#ranges = opened.head.rangeSets.flat()
    this.#sets = rangeSets === opened.head.rangeSets ? rangeSets : ofHead(opened.head, rangeSets)
    this.#current = opened.state === undefined ? undefined : SubnetIndex.open(this.#indexFolder, opened.file, opened.state, this.#ranges)
  }

  acquire(owner: LeaseOwner, setIndex: number, requested?: IpAddress): Lease {
    const set = this.#sets[setIndex]
    if (set === undefined) throw new RangeError(`There is no range set ${setIndex}: the subnet was opened with ${this.#sets.length}`)
    return this.#healed(() => (requested === undefined ? this.#acquireNext(owner, set) : this.#acquireRequested(owner, set, requested)))
  }

  release(owner: LeaseOwner, address: IpAddress): boolean {
    const line = this.#healed(() => this.#lineOf(address))
    const content = line === undefined ? undefined : this.#file.read(line)
    if (line === undefined || content?.kind !== 'leased' || content.owner !== owner) return false
    this.#free(line, address)
    return true
  }

  releaseAll(owner: LeaseOwner): readonly IpAddress[] {
    return this.#held(owner).map(({ line, address }) => {
      this.#free(line, address)
      return address
    })
  }

  leasesOf(owner: LeaseOwner): readonly IpAddress[] {
    return this.#held(owner).map(({ address }) => address)
  }

  leases(): readonly HeldLease[] {
    const held: HeldLease[] = []
    this.#file.forEach((content) => {
      const address = parseAddress(content.address)
      if (content.kind === 'leased' && address !== undefined) held.push({ address, owner: content.owner })
    })
    return held
  }

  [Symbol.dispose](): void {
    this.#current?.[Symbol.dispose]()
    this.#file[Symbol.dispose]()
  }

  #acquireNext(owner: LeaseOwner, set: RangeSet): Lease {
    return this.#acquireUnused(owner, set, FRESH_SLOTS) ?? this.#acquireFree(owner, set) ?? this.#acquireUnused(owner, set) ?? this.#refuseFull(set)
  }

  #acquireUnused(owner: LeaseOwner, set: RangeSet, limit?: number): Lease | undefined {
    for (const range of set) {
      const slot = this.#index().unused(range, limit)
      if (slot !== undefined) return this.#append(owner, range, slot)
    }
    return undefined
  }

  #acquireFree(owner: LeaseOwner, set: RangeSet): Lease | undefined {
    const index = this.#index()
    const candidates = set.flatMap((range) => {
      const entry = index.oldestFree(range)
      return entry === undefined ? [] : [{ range, ...entry }]
    })
    candidates.sort((a, b) => a.sequence - b.sequence)
    const [oldest] = candidates
    const content = oldest === undefined ? undefined : this.#file.read(oldest.line)
    const address = parseAddress(content?.address ?? '')
    if (oldest === undefined || address === undefined) return undefined
    this.#file.write(oldest.line, { kind: 'leased', address: formatAddress(address), owner })
    this.#note((noted) => noted.consumed(oldest.range))
    return lease(oldest.range, address)
  }

  #acquireRequested(owner: LeaseOwner, set: RangeSet, address: IpAddress): Lease {
    const range = rangeWith(set, address)
    const slot = range === undefined ? undefined : slotOf(range, address)
    if (range === undefined || slot === undefined) throw notServed(set, address)
    const line = this.#index().lineOf(range, slot)
    if (line === undefined) return this.#append(owner, range, slot)
    const content = this.#file.read(line)
    if (content?.kind === 'leased') {
      throw new TsnetError(
        'TSNET_ADDRESS_TAKEN',
        `Cannot lease ${formatAddress(address)} in network "${this.head.network}": "${content.owner}" holds it`,
        {
          cniCode: CNI_CODE.addressTaken,
        },
      )
    }
    this.#file.write(line, { kind: 'leased', address: formatAddress(address), owner })
    this.#note(() => undefined)
    return lease(range, address)
  }

  #append(owner: LeaseOwner, range: Range, slot: bigint): Lease {
    const address = addressOfSlot(range, slot)
    const line = this.#file.lines
    this.#file.write(line, { kind: 'leased', address: formatAddress(address), owner })
    this.#note((index) => index.added(range, slot, line))
    return lease(range, address)
  }

  /** The queue first, then the text: killed between the two, the queue names a leased line, which is passed over. */
  #free(line: number, address: IpAddress): void {
    const index = this.#healed(() => this.#index())
    const sequence = index.sequence + 1
    const range = rangeWith(this.#ranges, address)
    try {
      if (range !== undefined) index.releasing(range, { line, sequence })
    } catch {
      // Not even a full disk may keep a lease from being released. Without its entry the index has to be built anew.
      this.#drop()
    }
    this.#file.write(line, { kind: 'free', address: formatAddress(address), sequence })
    this.#note((noted) => {
      noted.sequence = sequence
    })
  }

  /** The text is written, so the change has happened; hints that cannot follow it are thrown away. */
  #note(change: (index: SubnetIndex) => void): void {
    try {
      if (this.#current === undefined) return
      change(this.#current)
      this.#current.commit()
    } catch {
      this.#drop()
    }
  }

  #drop(): void {
    this.#current?.discard()
    this.#current = undefined
  }

  #index(): SubnetIndex {
    if (this.#current !== undefined) return this.#current
    try {
      this.#current = SubnetIndex.build(this.#indexFolder, this.#file, this.#ranges)
      return this.#current
    } catch (cause) {
      if (cause instanceof TsnetError) throw cause
      throw new TsnetError('TSNET_SUBNET_INDEX', `Cannot write the index "${this.#indexFolder}" of a subnet file`, {
        cniCode: CNI_CODE.io,
        hint: adviceFor(cause),
        cause,
      })
    }
  }

  /** Runs a change that reads hints; `IndexBroken` comes before anything is written. */
  #healed<T>(change: () => T): T {
    try {
      return change()
    } catch (error) {
      if (!(error instanceof IndexBroken)) throw error
      this.#drop()
      return change()
    }
  }

  #lineOf(address: IpAddress): number | undefined {
    const range = rangeWith(this.#ranges, address)
    const slot = range === undefined ? undefined : slotOf(range, address)
    return range === undefined || slot === undefined ? this.#file.findAddress(formatAddress(address)) : this.#index().lineOf(range, slot)
  }

  #held(owner: LeaseOwner): readonly { readonly line: number; readonly address: IpAddress }[] {
    return this.#file.find(` leased ${owner}`).flatMap(({ line, content }) => {
      const address = parseAddress(content.address)
      return content.kind === 'leased' && content.owner === owner && address !== undefined ? [{ line, address }] : []
    })
  }

  #refuseFull(set: RangeSet): never {
    throw new TsnetError('TSNET_POOL_FULL', `Cannot lease an address in network "${this.head.network}": all of ${formatRangeSet(set)} are taken`, {
      cniCode: CNI_CODE.tryAgain,
    })
  }
}

/** The head's own objects for the same sets: the index knows ranges by identity. */
function ofHead(head: SubnetHead, rangeSets: readonly RangeSet[]): readonly RangeSet[] {
  const known = new Map(head.rangeSets.map((set) => [formatSet(set), set]))
  return rangeSets.map((set) => known.get(formatSet(set)) ?? set)
}

function lease(range: Range, address: IpAddress): Lease {
  return { address, prefixLength: range.subnet.prefixLength, gateway: range.gateway, range }
}

function notServed(set: RangeSet, address: IpAddress): TsnetError {
  const text = formatAddress(address)
  const gateway = set.find((range) => range.gateway.family === address.family && range.gateway.value === address.value)
  const excluded = set.flatMap((range) => range.exclude).find((span) => spansOverlap(span, { first: address, last: address }))
  const reason = gateway ? 'it is the gateway' : excluded ? `${formatSpan(excluded)} is excluded` : `it is not in ${formatRangeSet(set)}`
  return new TsnetError('TSNET_REQUESTED_ADDRESS', `Cannot lease the requested address ${text}: ${reason}`, { cniCode: CNI_CODE.invalidConfig })
}
