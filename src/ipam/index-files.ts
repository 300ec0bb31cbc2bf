/**
 * The two binary files that a range has beside the subnet file: where an address has its line, and which lines were released in which
 * order. They are hints: whoever reads an entry reads the line that it names before believing it.
 */
import { closeSync, constants, fstatSync, openSync, readSync, renameSync, writeSync } from 'node:fs'

/** The hints contradict the text or themselves: they have to be built anew. Never leaves the store. */
export class IndexBroken extends Error {}

const SLOT_LENGTH = 4
const TABLE_PAGE = 4096
const QUEUE_HEAD = 16
const QUEUE_ENTRY = 16
const QUEUE_MAGIC = 0x3165657266 // "free1", little endian

/** Consumed entries that stay at least before the queue is written anew: a change must not pay for it often. */
const COMPACT_FROM = 4096

/** Slot → line. A sparse file of u32, line number plus one. Owns its fd. */
export class SlotTable implements Disposable {
  /** Slots from here on were never written. */
  length: number
  #file: HintFile

  /** @param length As the state recorded it. */
  constructor(path: string, length: number) {
    this.length = length
    this.#file = new HintFile(path, length * SLOT_LENGTH)
  }

  /** @param lines Line by slot, for a table that does not exist yet. */
  static create(path: string, lines: ReadonlyMap<number, number>): SlotTable {
    const table = new SlotTable(path, 0)
    const pages = new Map<number, Buffer>()
    for (const [slot, line] of lines) {
      const at = slot * SLOT_LENGTH
      const start = at - (at % TABLE_PAGE)
      const page = pages.get(start) ?? Buffer.alloc(TABLE_PAGE)
      pages.set(start, page)
      page.writeUInt32LE(line + 1, at - start)
      table.length = Math.max(table.length, slot + 1)
    }
    table.#file.create()
    for (const [start, page] of pages) table.#file.write(page, start)
    return table
  }

  /** @returns The line that may hold the slot's address, or undefined when none does. */
  get(slot: number): number | undefined {
    if (slot >= this.length) return undefined
    const entry = this.#file.read(SLOT_LENGTH, slot * SLOT_LENGTH).readUInt32LE(0)
    return entry === 0 ? undefined : entry - 1
  }

  set(slot: number, line: number): void {
    const entry = Buffer.alloc(SLOT_LENGTH)
    entry.writeUInt32LE(line + 1, 0)
    this.#file.write(entry, slot * SLOT_LENGTH)
    this.length = Math.max(this.length, slot + 1)
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]()
  }
}

export interface Released {
  readonly line: number
  readonly sequence: number
}

/**
 * Released lines, the oldest first: a head, then entries of 16 bytes. Positions count from the first release ever, so that they stay
 * true when consumed entries are dropped. Owns its fd.
 */
export class FreeQueue implements Disposable {
  /** Position of the next entry to consume. */
  position: number
  #path: string
  #file: HintFile
  #dropped: number | undefined

  constructor(path: string, position: number) {
    this.position = position
    this.#path = path
    this.#file = new HintFile(path, QUEUE_HEAD)
  }

  /** @param entries For a queue that does not exist yet, in order. */
  static create(path: string, entries: readonly Released[], dropped = 0): FreeQueue {
    const queue = new FreeQueue(path, dropped)
    const bytes = Buffer.alloc(QUEUE_HEAD + entries.length * QUEUE_ENTRY)
    // The two words check one another: half a head, or a foreign one, is no head.
    bytes.writeBigUInt64LE(queueCheck(BigInt(dropped)), 0)
    bytes.writeBigUInt64LE(BigInt(dropped), 8)
    for (const [i, entry] of entries.entries()) putEntry(bytes, QUEUE_HEAD + i * QUEUE_ENTRY, entry)
    queue.#file.create()
    queue.#file.write(bytes, 0)
    queue.#dropped = dropped
    return queue
  }

  /** @returns The position behind the last entry, by the file's size: an entry may be there that its writer did not live to count. */
  end(): number {
    return this.#first() + Math.floor((this.#file.size() - QUEUE_HEAD) / QUEUE_ENTRY)
  }

  /** @returns The entry at `position`, or undefined when all are consumed. */
  front(): Released | undefined {
    this.position = Math.max(this.position, this.#first())
    if (this.position >= this.end()) return undefined
    const bytes = this.#file.read(QUEUE_ENTRY, this.#offset(this.position))
    return { line: bytes.readUInt32LE(8), sequence: Number(bytes.readBigUInt64LE(0)) }
  }

  /** @returns The new end. */
  push(entry: Released): number {
    const bytes = Buffer.alloc(QUEUE_ENTRY)
    const end = this.end()
    putEntry(bytes, 0, entry)
    this.#file.write(bytes, this.#offset(end))
    return end + 1
  }

  /** Drops consumed entries once they are the larger half; what it costs, as many calls before have saved. */
  compact(): void {
    const consumed = this.position - this.#first()
    const left = this.end() - this.position
    if (consumed < COMPACT_FROM || consumed < left) return
    const entries = Array.from({ length: left }, (_, i) => i * QUEUE_ENTRY)
    const bytes = this.#file.read(left * QUEUE_ENTRY, this.#offset(this.position))
    const kept = entries.map((at) => ({ line: bytes.readUInt32LE(at + 8), sequence: Number(bytes.readBigUInt64LE(at)) }))
    const queue = FreeQueue.create(`${this.#path}.new`, kept, this.position)
    renameSync(`${this.#path}.new`, this.#path)
    this.#file[Symbol.dispose]()
    this.#file = queue.#file
    this.#dropped = this.position
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]()
  }

  #first(): number {
    if (this.#dropped !== undefined) return this.#dropped
    const head = this.#file.read(QUEUE_HEAD, 0)
    const dropped = head.readBigUInt64LE(8)
    if (head.readBigUInt64LE(0) !== queueCheck(dropped)) throw new IndexBroken(`${this.#path} is no queue`)
    this.#dropped = Number(dropped)
    return this.#dropped
  }

  #offset(position: number): number {
    return QUEUE_HEAD + (position - this.#first()) * QUEUE_ENTRY
  }
}

/** Any odd number of 64 bits will do that spreads its bits: here 2^64 divided by the golden ratio. */
function queueCheck(dropped: bigint): bigint {
  return BigInt.asUintN(64, BigInt(QUEUE_MAGIC) ^ (dropped * 0x9e3779b97f4a7c15n))
}

function putEntry(bytes: Buffer, at: number, entry: Released): void {
  bytes.writeBigUInt64LE(BigInt(entry.sequence), at)
  bytes.writeUInt32LE(entry.line, at + 8)
}

/** A file that is opened when first needed; one that is missing or too short breaks the index. */
class HintFile implements Disposable {
  #path: string
  #leastSize: number
  #fd = -1

  constructor(path: string, leastSize: number) {
    this.#path = path
    this.#leastSize = leastSize
  }

  create(): void {
    this.#fd = openSync(this.#path, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW, 0o600)
  }

  read(length: number, position: number): Buffer {
    const bytes = Buffer.alloc(length)
    if (readSync(this.#open(), bytes, 0, length, position) !== length) throw new IndexBroken(`${this.#path} ends too early`)
    return bytes
  }

  write(bytes: Uint8Array, position: number): void {
    if (writeSync(this.#open(), bytes, 0, bytes.length, position) !== bytes.length) throw new IndexBroken(`${this.#path} is cut short`)
  }

  size(): number {
    return fstatSync(this.#open()).size
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) closeSync(this.#fd)
    this.#fd = -1
  }

  #open(): number {
    if (this.#fd >= 0) return this.#fd
    try {
      this.#fd = openSync(this.#path, constants.O_RDWR | constants.O_NOFOLLOW)
    } catch (cause) {
      throw new IndexBroken(`${this.#path} cannot be opened`, { cause })
    }
    // A table that was cut short must not be written to: the hole would read as addresses never used.
    if (fstatSync(this.#fd).size < this.#leastSize) throw new IndexBroken(`${this.#path} was cut short`)
    return this.#fd
  }
}
