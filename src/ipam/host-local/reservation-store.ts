/** The reservations of a network: the files, which are the truth, and the index, which spares reading them. Open means locked. */
import { join } from 'node:path'
import { ErrorList } from '../../error.ts'
import { bootId } from '../../sys/boot.ts'
import { vanishedNetns } from '../../sys/netns-identity.ts'
import { formatAddress, parseAddress } from '../../wire/ip-address.ts'
import { type RangeSet, rangeWith } from '../range.ts'
import { HolderIndex, type IndexEntry } from './holder-index.ts'
import { type Holder, ReservationFolder } from './reservation-folder.ts'
import { addressesAfter } from './round-robin.ts'

/** In the folder of all networks: no network has such a name, and the reference plugin never looks at it. */
export const INDEX_FOLDER = '.tsnet'
/** Nobody takes that long between making a file and writing into it, which happens under the lock anyway. */
const EMPTY_AGE_MS = 10_000
/** From here on writing the whole index is cheaper than to change it container by container. */
const MANY = 64

export interface NetworkFolder {
  /** Absolute. */
  readonly dataDir: string
  /** A network's name, checked. */
  readonly network: string
}

export class ReservationStore implements Disposable {
  readonly folder: ReservationFolder
  readonly #index: HolderIndex
  /** Whether the index describes the folder. */
  #complete: boolean
  /** What reading every file has shown; undefined where the index was enough. */
  #read: readonly IndexEntry[] | undefined
  /** Reserved, and not yet in the index: a process that is killed now must not leave a mark that says it is complete. */
  readonly #unrecorded = new Set<string>()

  private constructor(folder: ReservationFolder, index: HolderIndex) {
    this.folder = folder
    this.#index = index
    this.#complete = index.mark() === folder.changed()
  }

  /**
   * @param timeoutMs How long to wait for others.
   * @throws TsnetError TSNET_LOCK_TIMEOUT, CNI code 11; TSNET_LOCK, CNI code 5
   */
  static open({ dataDir, network }: NetworkFolder, timeoutMs: number): ReservationStore {
    const folder = ReservationFolder.open(join(dataDir, network), timeoutMs)
    try {
      return new ReservationStore(folder, new HolderIndex(join(dataDir, INDEX_FOLDER, network)))
    } catch (error) {
      folder[Symbol.dispose]()
      throw error
    }
  }

  /** @returns What an interface of a container has, files of old versions included, which name only the container. */
  heldBy({ containerID, ifname }: Holder): readonly IndexEntry[] {
    const find = () =>
      (this.#read?.filter((entry) => entry.containerID === containerID) ?? this.#index.entriesOf(containerID)).filter(
        (entry) => entry.ifname === undefined || entry.ifname === ifname,
      )
    if (!this.#complete) this.#readFiles()
    const entries = find()
    if (!this.#index.broken && entries.every((entry) => this.#isStill(entry))) return entries
    this.#readFiles()
    return find()
  }

  /** @returns All reservations. */
  all(): readonly IndexEntry[] {
    if (!this.#complete) this.#readFiles()
    const entries = this.#read ?? this.#index.all()
    if (!this.#index.broken) return entries
    this.#readFiles()
    return this.#read ?? []
  }

  /** @returns The stamp of the file; undefined when the address is taken. It is the caller's to record or to release. */
  reserve(address: string, holder: Required<Holder>): string | undefined {
    this.#unrecorded.add(address)
    const stamp = this.folder.reserve(address, holder)
    if (stamp === undefined) this.#unrecorded.delete(address)
    return stamp
  }

  /** Writes down what a container has now. */
  record(containerID: string, change: (entries: readonly IndexEntry[]) => readonly IndexEntry[]): void {
    this.#index.update(containerID, change)
    this.#read = undefined
    this.#unrecorded.clear()
    this.#setMark()
  }

  /**
   * Gives addresses back whose files are still those that the entries are about.
   * @returns Those that were given back. Not even a full disk keeps them: an index that cannot be written is made anew by the next call.
   * @throws ErrorList after all others were given back
   */
  release(entries: readonly IndexEntry[]): readonly IndexEntry[] {
    const released: IndexEntry[] = []
    const errors: unknown[] = []
    for (const entry of entries) {
      try {
        if (!this.#isStill(entry)) continue
        this.folder.release(entry.address)
        this.#unrecorded.delete(entry.address)
        released.push(entry)
      } catch (error) {
        errors.push(error)
      }
    }
    try {
      this.#forget(released)
    } catch {
      this.#complete = false
    }
    if (errors.length > 0) throw new ErrorList(`Cannot give back addresses of "${this.folder.path}"`, errors)
    return released
  }

  /** @returns Whether it is certain that the namespace is gone for which an address was reserved; of what another program reserves only a reboot tells. */
  judge(): (entry: IndexEntry) => boolean {
    const hasVanished = vanishedNetns()
    const boot = bootId()
    return (entry) => entry.bootId !== boot || (entry.purpose?.netns !== undefined && hasVanished(entry.purpose.netns))
  }

  /** @param spared A container that is being served. @returns What was reserved for namespaces that are gone. */
  vanished(spared?: string): readonly IndexEntry[] {
    const isOver = this.judge()
    return this.all().filter((entry) => entry.containerID !== spared && isOver(entry))
  }

  /** @returns Whether no address of a set can be had, not even one of a namespace that is gone. */
  isFull(set: RangeSet): boolean {
    const taken = new Set(this.folder.names())
    for (const { address } of addressesAfter(set, undefined)) {
      if (!taken.has(formatAddress(address))) return false
    }
    const gone = this.vanished().flatMap(({ address }) => parseAddress(address) ?? [])
    return !gone.some((address) => rangeWith(set, address) !== undefined)
  }

  [Symbol.dispose](): void {
    this.folder[Symbol.dispose]()
  }

  #isStill({ address, stamp }: IndexEntry): boolean {
    return this.folder.read(address)?.stamp === stamp
  }

  #forget(released: readonly IndexEntry[]): void {
    if (released.length === 0) return
    const gone = new Set(released.map(({ address }) => address))
    const without = (all: readonly IndexEntry[]) => all.filter(({ address }) => !gone.has(address))
    this.#read &&= without(this.#read)
    if (released.length > MANY) this.#index.replace(without(this.#index.all()))
    else for (const containerID of new Set(released.map((entry) => entry.containerID))) this.#index.update(containerID, without)
    this.#setMark()
  }

  #setMark(): void {
    if (this.#complete && this.#unrecorded.size === 0) this.#index.setMark(this.folder.mark())
  }

  /** Reads every file, and reclaims those that are empty: somebody was killed, or the disk was full, before a word was written. */
  #readFiles(): void {
    const known = new Map(this.#index.all().map((entry) => [entry.address, entry]))
    const boot = bootId()
    let complete = true
    const entries = this.folder.names().flatMap((name): readonly IndexEntry[] => {
      const file = this.folder.read(name)
      if (file?.holder === undefined) {
        if (file !== undefined && file.ageMs > EMPTY_AGE_MS) this.folder.release(name)
        else if (file !== undefined) complete = false
        return []
      }
      const former = known.get(name)?.stamp === file.stamp ? known.get(name) : undefined
      const { purpose, bootId: seen = boot } = former ?? {}
      return [{ address: name, stamp: file.stamp, bootId: seen, ...file.holder, ...(purpose && { purpose }) }]
    })
    this.#read = entries
    try {
      this.#index.replace(entries)
      this.#complete = complete
      this.#setMark()
    } catch {
      // What was read serves this call; a full disk must not keep it from giving addresses back.
      this.#complete = false
    }
  }
}
