/** The reservations of a network: the files, which are the truth, and the index, which spares reading them. Open means locked. */
import { join } from 'node:path'
import { vanishedNetns } from '../../sys/netns-identity.ts'
import { formatAddress } from '../../wire/ip-address.ts'
import { type RangeSet, slotCount, slotOf } from '../range.ts'
import { HolderIndex, type IndexEntry } from './holder-index.ts'
import { type Holder, ReservationFolder } from './reservation-folder.ts'

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
  /** What the folder was like when the index last described it; undefined while it does not. */
  #complete: boolean

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
      return new ReservationStore(folder, new HolderIndex(join(dataDir, '.tsnet', network)))
    } catch (error) {
      folder[Symbol.dispose]()
      throw error
    }
  }

  /** @returns What an interface of a container has, files of old versions included, which name only the container. */
  heldBy({ containerID, ifname }: Holder): readonly IndexEntry[] {
    const find = () => this.#index.entriesOf(containerID).filter((entry) => entry.ifname === undefined || entry.ifname === ifname)
    if (!this.#complete) this.#rebuild()
    const entries = find()
    if (entries.every((entry) => this.#isStill(entry))) return entries
    this.#rebuild()
    return find()
  }

  /** @returns All reservations. */
  all(): readonly IndexEntry[] {
    if (!this.#complete) this.#rebuild()
    return this.#index.all()
  }

  /** Writes down what a container has now. */
  record(containerID: string, change: (entries: readonly IndexEntry[]) => readonly IndexEntry[]): void {
    this.#index.update(containerID, change)
    if (this.#complete) this.#index.setMark(this.folder.mark())
  }

  /**
   * Gives addresses back whose files are still those that the entries are about.
   * @returns Those that were given back. Not even a full disk keeps them: an index that cannot be written is made anew by the next call.
   */
  release(entries: readonly IndexEntry[]): readonly IndexEntry[] {
    const released = entries.filter((entry) => {
      if (!this.#isStill(entry)) return false
      this.folder.release(entry.address)
      return true
    })
    try {
      this.#forget(entries)
    } catch {
      this.#complete = false
    }
    return released
  }

  /**
   * Gives back what was reserved for namespaces that are gone. Of what another program has reserved nobody knows the namespace.
   * @param spared A container that is being served.
   */
  releaseVanished(spared?: string): readonly IndexEntry[] {
    const entries = this.all().filter(({ containerID }) => containerID !== spared)
    const hasVanished = vanishedNetns()
    return this.release(entries.filter(({ purpose }) => purpose?.netns !== undefined && hasVanished(purpose.netns)))
  }

  /** @returns Whether every address of a set has a file. */
  isFull(set: RangeSet): boolean {
    const names = new Set(this.folder.names())
    return set.every((range) => {
      if (slotCount(range) > BigInt(names.size)) return false
      const { family } = range.first
      for (let value = range.first.value; value <= range.last.value; value++) {
        const address = { family, value }
        if (slotOf(range, address) !== undefined && !names.has(formatAddress(address))) return false
      }
      return true
    })
  }

  [Symbol.dispose](): void {
    this.folder[Symbol.dispose]()
  }

  #isStill({ address, stamp }: IndexEntry): boolean {
    return this.folder.read(address)?.stamp === stamp
  }

  #forget(entries: readonly IndexEntry[]): void {
    const gone = new Set(entries.map(({ address }) => address))
    const without = (all: readonly IndexEntry[]) => all.filter(({ address }) => !gone.has(address))
    if (entries.length > MANY) this.#index.replace(without(this.#index.all()))
    else for (const containerID of new Set(entries.map((entry) => entry.containerID))) this.#index.update(containerID, without)
    if (this.#complete && entries.length > 0) this.#index.setMark(this.folder.mark())
  }

  /** Reads every file, and reclaims those that are empty: somebody was killed, or the disk was full, before a word was written. */
  #rebuild(): void {
    const known = new Map(this.#index.all().map((entry) => [entry.address, entry]))
    let complete = true
    const entries = this.folder.names().flatMap((name): readonly IndexEntry[] => {
      const file = this.folder.read(name)
      if (file === undefined) return []
      if (file.holder === undefined) {
        if (file.ageMs > EMPTY_AGE_MS) this.folder.release(name)
        else complete = false
        return []
      }
      const former = known.get(name)
      return [
        { address: name, stamp: file.stamp, ...file.holder, ...(former?.stamp === file.stamp && former.purpose && { purpose: former.purpose }) },
      ]
    })
    this.#index.replace(entries)
    this.#complete = complete
    if (complete) this.#index.setMark(this.folder.mark())
  }
}
