/**
 * What spares a change from reading the whole subnet file: `index/state`, and a table and a queue for each range. `state` names the exact
 * state of the text (inode, change time, size) that the index describes. Any other state, after an edit, a kill or a full disk,
 * makes the index worthless, and it is built anew by one scan.
 */
import { closeSync, constants, fstatSync, mkdirSync, openSync, readdirSync, readSync, unlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { formatAddress, parseAddress } from '../wire/ip-address.ts'
import { FreeQueue, IndexBroken, type Released, SlotTable } from './index-files.ts'
import type { FileStamp, LeaseFile } from './lease-file.ts'
import { addressOfSlot, formatSpan, type Range, slotCount, slotOf } from './range.ts'

/** Slots from here on have no place in the table (64 MiB for a range at most); the text is searched for them. */
const TABLE_SLOTS = 1 << 24

const MAGIC = 0x3165746174736e74n // "tnstate1", little endian
const STATE_HEAD = 64
const STATE_RANGE = 64

interface RangeIndex {
  readonly range: Range
  readonly slots: bigint
  /** No slot before this one is unused. */
  next: bigint
  readonly table: SlotTable
  readonly queue: FreeQueue
  /** The queue had at least this many entries, by position, when the state was written. */
  queueEnd: number
}

/** The index of an open subnet file. Owns the fds of its files. */
export class SubnetIndex implements Disposable {
  /** Of the last release. */
  sequence: number
  #folder: string
  #file: LeaseFile
  #ranges: Map<Range, RangeIndex>

  constructor(folder: string, file: LeaseFile, content: { readonly sequence: number; readonly ranges: readonly RangeIndex[] }) {
    this.#folder = folder
    this.#file = file
    this.sequence = content.sequence
    this.#ranges = new Map(content.ranges.map((entry) => [entry.range, entry]))
  }

  /** @param stamp Of the subnet file. @returns The recorded state when it describes exactly this file, for `open`. */
  static readState(folder: string, stamp: FileStamp): Buffer | undefined {
    let fd: number
    try {
      fd = openSync(join(folder, 'state'), constants.O_RDONLY | constants.O_NOFOLLOW)
    } catch {
      return undefined
    }
    const state = Buffer.alloc(fstatSync(fd).size)
    readSync(fd, state, 0, state.length, 0)
    closeSync(fd)
    const { inode, changeTime, size } = stamp
    const fits = state.length >= STATE_HEAD && state.readBigUInt64LE(0) === MAGIC && state.readBigUInt64LE(8) === inode
    return fits && state.readBigInt64LE(16) === changeTime && state.readBigUInt64LE(24) === size && state.readUInt32LE(40) === checksum(state)
      ? state
      : undefined
  }

  /** @param ranges All ranges of the file's head, in its order. @returns The index, or undefined when the state is of other ranges. */
  static open(folder: string, file: LeaseFile, state: Buffer, ranges: readonly Range[]): SubnetIndex | undefined {
    if (state.length !== STATE_HEAD + ranges.length * STATE_RANGE) return undefined
    const entries = ranges.map((range, i) => {
      const at = STATE_HEAD + i * STATE_RANGE
      const path = join(folder, formatSpan(range))
      return {
        range,
        slots: slotCount(range),
        next: state.readBigUInt64LE(at) | (state.readBigUInt64LE(at + 8) << 64n),
        table: new SlotTable(`${path}.lines`, Number(state.readBigUInt64LE(at + 16))),
        queue: new FreeQueue(`${path}.free`, Number(state.readBigUInt64LE(at + 24))),
        queueEnd: Number(state.readBigUInt64LE(at + 32)),
      }
    })
    return new SubnetIndex(folder, file, { sequence: Number(state.readBigUInt64LE(32)), ranges: entries })
  }

  /** Builds the index by one scan of the lines, over whatever lies in the folder. `state` goes first and comes last. */
  static build(folder: string, file: LeaseFile, ranges: readonly Range[]): SubnetIndex {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const names = readdirSync(folder).sort((a, b) => Number(b === 'state') - Number(a === 'state'))
    for (const name of names) unlinkSync(join(folder, name))
    const found = ranges.map((range) => ({ range, lines: new Map<number, number>(), free: [] as Released[] }))
    let sequence = 0
    file.forEach((content, line) => {
      if (content.kind === 'free') sequence = Math.max(sequence, content.sequence)
      const address = parseAddress(content.address)
      for (const { range, lines, free } of found) {
        const slot = address === undefined ? undefined : slotOf(range, address)
        if (slot === undefined) continue
        if (slot < TABLE_SLOTS) lines.set(Number(slot), line)
        if (content.kind === 'free') free.push({ line, sequence: content.sequence })
      }
    })
    const entries = found.map(({ range, lines, free }) => {
      const path = join(folder, formatSpan(range))
      const queue = FreeQueue.create(
        `${path}.free`,
        free.sort((a, b) => a.sequence - b.sequence),
      )
      return {
        range,
        slots: slotCount(range),
        next: firstUnused(lines),
        table: SlotTable.create(`${path}.lines`, lines),
        queue,
        queueEnd: free.length,
      }
    })
    const index = new SubnetIndex(folder, file, { sequence, ranges: entries })
    index.commit()
    return index
  }

  /** @returns The first slot below `limit` whose address has no line, or undefined. */
  unused(range: Range, limit?: number): bigint | undefined {
    const entry = this.#of(range)
    const end = limit === undefined || entry.slots < limit ? entry.slots : BigInt(limit)
    while (entry.next < end) {
      if (this.lineOf(range, entry.next) === undefined) return entry.next
      entry.next++
    }
    return undefined
  }

  /** @returns The line of a slot's address, which was read and is the right one, or undefined when there is none. */
  lineOf(range: Range, slot: bigint): number | undefined {
    const address = formatAddress(addressOfSlot(range, slot))
    if (slot >= TABLE_SLOTS) return this.#file.findAddress(address)
    const line = this.#of(range).table.get(Number(slot))
    if (line !== undefined && this.#file.read(line)?.address !== address) throw new IndexBroken(`the table has a wrong line for ${address}`)
    return line
  }

  /** @returns The line of the range that was released longest ago and is still free, or undefined. */
  oldestFree(range: Range): Released | undefined {
    const { queue, queueEnd } = this.#whole(range)
    for (let entry = queue.front(); entry !== undefined; entry = queue.front()) {
      const content = this.#file.read(entry.line)
      const address = content?.kind === 'free' && content.sequence === entry.sequence ? parseAddress(content.address) : undefined
      if (address === undefined && entry.sequence > this.sequence && queue.position < queueEnd)
        throw new IndexBroken('A queue names a release that never was')
      // Acquired by request meanwhile, or its release was never completed: such an entry says nothing any more.
      if (address !== undefined && slotOf(range, address) !== undefined) return entry
      queue.position++
    }
    return undefined
  }

  /** Notes a line that was added to the text. */
  added(range: Range, slot: bigint, line: number): void {
    if (slot < TABLE_SLOTS) this.#of(range).table.set(Number(slot), line)
  }

  /** Notes that the range's oldest free line was leased. */
  consumed(range: Range): void {
    const { queue } = this.#of(range)
    queue.position++
    queue.compact()
  }

  /** Notes a line that is about to become free. */
  releasing(range: Range, entry: Released): void {
    const index = this.#whole(range)
    index.queueEnd = index.queue.push(entry)
  }

  /** Writes down that the index describes the text as it is now. */
  commit(): void {
    const { inode, changeTime, size } = this.#file.stamp()
    const state = Buffer.alloc(STATE_HEAD + this.#ranges.size * STATE_RANGE)
    state.writeBigUInt64LE(MAGIC, 0)
    state.writeBigUInt64LE(inode, 8)
    state.writeBigInt64LE(changeTime, 16)
    state.writeBigUInt64LE(size, 24)
    state.writeBigUInt64LE(BigInt(this.sequence), 32)
    let at = STATE_HEAD
    for (const { next, table, queue, queueEnd } of this.#ranges.values()) {
      const numbers = [next & 0xffffffffffffffffn, next >> 64n, table.length, queue.position, queueEnd]
      for (const [i, number] of numbers.entries()) state.writeBigUInt64LE(BigInt(number), at + i * 8)
      at += STATE_RANGE
    }
    state.writeUInt32LE(checksum(state), 40)
    const fd = openSync(join(this.#folder, 'state'), constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600)
    try {
      writeSync(fd, state, 0, state.length, 0)
    } finally {
      closeSync(fd)
    }
  }

  /** Makes the next process build the index anew. */
  discard(): void {
    this[Symbol.dispose]()
    try {
      unlinkSync(join(this.#folder, 'state'))
    } catch {
      // It is gone, or the folder is out of reach: then the text's change time tells the next process as well.
    }
  }

  [Symbol.dispose](): void {
    for (const { table, queue } of this.#ranges.values()) {
      table[Symbol.dispose]()
      queue[Symbol.dispose]()
    }
  }

  #whole(range: Range): RangeIndex {
    const entry = this.#of(range)
    if (entry.queue.end() < entry.queueEnd) throw new IndexBroken('the queue ends too early')
    return entry
  }

  #of(range: Range): RangeIndex {
    const entry = this.#ranges.get(range)
    if (entry === undefined) throw new RangeError(`Range ${formatSpan(range)} is not one of the subnet file's head`)
    return entry
  }
}

function firstUnused(lines: ReadonlyMap<number, number>): bigint {
  let slot = 0
  while (lines.has(slot)) slot++
  return BigInt(slot)
}

/** FNV-1a-32 over all but its own place. */
function checksum(state: Buffer): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < state.length; i++) if (i < 40 || i >= 44) hash = Math.imul(hash ^ (state[i] as number), 0x01000193)
  return hash >>> 0
}
