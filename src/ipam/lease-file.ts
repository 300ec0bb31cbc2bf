/** A subnet file on the disk: reads and writes single lease lines in place. */
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { CNI_CODE, TsnetError } from '../error.ts'
import { adviceFor, replaceFile, requireOwn, syncFile } from '../sys/state-file.ts'
import {
  bad,
  formatHead,
  formatLine,
  headLength,
  type LeaseLine,
  LINE_LENGTH,
  PAGE_LENGTH,
  parseHead,
  parseLine,
  type SubnetHead,
} from './subnet-file.ts'

/** What tells one state of a file from another. */
export interface FileStamp {
  readonly inode: bigint
  /** Nanoseconds; nobody can set it. */
  readonly changeTime: bigint
  readonly size: bigint
}

const CHUNK_LENGTH = 8192 * LINE_LENGTH

/** An open subnet file, read and written by line number, counted from 0 behind the head. Owns its fd. */
export class LeaseFile implements Disposable {
  readonly path: string
  #fd: number
  #headLength = 0
  #lines = 0

  /** @param fd Passes into the object's hands. */
  constructor(path: string, fd: number) {
    this.path = path
    this.#fd = fd
  }

  /** @returns The file, or undefined when there is none. @throws TsnetError TSNET_SUBNET_FILE when it cannot be opened */
  static open(path: string): LeaseFile | undefined {
    try {
      return new LeaseFile(path, openSync(path, constants.O_RDWR | constants.O_NOFOLLOW))
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw failed('open', path, cause)
    }
  }

  /** Puts a whole file in the place of the old one, or of none: readers find the old or the new. @throws TsnetError TSNET_SUBNET_FILE */
  static replace(path: string, head: SubnetHead, lines: readonly LeaseLine[]): void {
    const text = formatHead(head) + lines.map(formatLine).join('')
    try {
      replaceFile(path, Buffer.from(text, 'latin1'))
    } catch (cause) {
      throw failed('write', path, cause)
    }
  }

  get lines(): number {
    return this.#lines
  }

  /** @throws TsnetError TSNET_STATE when the file is another user's, or open to others */
  stamp(): FileStamp {
    const { ino, ctimeNs, size, uid, mode } = fstatSync(this.#fd, { bigint: true })
    requireOwn(this.path, { uid: Number(uid), mode: Number(mode) })
    return { inode: ino, changeTime: ctimeNs, size }
  }

  /**
   * Reads the head of a file whose lines are known to stand where they must.
   * @param stamp Of now.
   * @param expected What the head says most of the time; comparing its text is a millisecond faster than parsing, in a process that just started.
   * @throws TsnetError TSNET_SUBNET_FILE
   */
  readHead(stamp: FileStamp, expected?: SubnetHead): SubnetHead {
    let text = this.#bytes(0, PAGE_LENGTH).toString('latin1')
    this.#headLength = headLength(text) ?? PAGE_LENGTH
    if (this.#headLength > PAGE_LENGTH) text = this.#bytes(0, this.#headLength).toString('latin1')
    this.#lines = Math.floor((Number(stamp.size) - this.#headLength) / LINE_LENGTH)
    return expected !== undefined && formatHead(expected) === text ? expected : parseHead(text.split('\n'), this.path)
  }

  /** @returns The whole text. */
  readAll(): string {
    return this.#bytes(0, Number(this.stamp().size)).toString('latin1')
  }

  /** @returns A line, or undefined past the end. @throws TsnetError TSNET_SUBNET_FILE when it is no lease line */
  read(line: number): LeaseLine | undefined {
    if (line < 0 || line >= this.#lines) return undefined
    return this.#parse(this.#bytes(this.#position(line), LINE_LENGTH).toString('latin1'), line)
  }

  /** Puts a line in the place of another, all of it or nothing. @throws TsnetError TSNET_SUBNET_FILE */
  write(line: number, content: LeaseLine): void {
    const bytes = Buffer.from(formatLine(content), 'latin1')
    let written: number
    try {
      written = writeSync(this.#fd, bytes, 0, bytes.length, this.#position(line))
      // A lease is on the disk before it is reported. A release may be lost with all else: then there is nobody who holds it.
      if (content.kind === 'leased') syncFile(this.#fd, dirname(this.path))
    } catch (cause) {
      throw failed('write to', this.path, cause)
    }
    if (written !== bytes.length)
      throw new TsnetError('TSNET_SUBNET_FILE', `Cannot write to subnet file "${this.path}": the disk is full`, { cniCode: CNI_CODE.io })
    if (line === this.#lines) this.#lines++
  }

  /** @param words What the lines must hold, a whole word at the end, such as ` leased web-1:eth0`. @returns The lines in which it stands, by a scan. */
  find(words: string): readonly { readonly line: number; readonly content: LeaseLine }[] {
    const found: { line: number; content: LeaseLine }[] = []
    const needle = Buffer.from(words, 'latin1')
    this.#scan((chunk, firstLine) => {
      for (let at = chunk.indexOf(needle); at >= 0; at = chunk.indexOf(needle, at + 1)) {
        const after = chunk[at + needle.length]
        if (after !== 0x20 && after !== 0x0a) continue
        const row = Math.floor(at / LINE_LENGTH)
        found.push({ line: firstLine + row, content: this.#row(chunk, row, firstLine) })
      }
    })
    return found
  }

  /** @returns The line of an address, by a scan. */
  findAddress(address: string): number | undefined {
    return [`${address} leased`, `${address} free`].flatMap((words) => this.find(words)).find(({ content }) => content.address === address)?.line
  }

  /** Calls `visit` with every line. */
  forEach(visit: (content: LeaseLine, line: number) => void): void {
    this.#scan((chunk, firstLine) => {
      for (let row = 0; row < chunk.length / LINE_LENGTH; row++) visit(this.#row(chunk, row, firstLine), firstLine + row)
    })
  }

  [Symbol.dispose](): void {
    if (this.#fd < 0) return
    closeSync(this.#fd)
    this.#fd = -1
  }

  #scan(visit: (chunk: Buffer, firstLine: number) => void): void {
    const end = this.#position(this.#lines)
    for (let at = this.#headLength; at < end; at += CHUNK_LENGTH) {
      visit(this.#bytes(at, Math.min(CHUNK_LENGTH, end - at)), (at - this.#headLength) / LINE_LENGTH)
    }
  }

  #row(chunk: Buffer, row: number, firstLine: number): LeaseLine {
    return this.#parse(chunk.toString('latin1', row * LINE_LENGTH, (row + 1) * LINE_LENGTH), firstLine + row)
  }

  #parse(text: string, line: number): LeaseLine {
    const parsed = text.length === LINE_LENGTH && text.indexOf('\n') === LINE_LENGTH - 1 ? parseLine(text) : undefined
    if (parsed !== undefined) return parsed
    const headRows = this.#bytes(0, this.#headLength).reduce((count, byte) => count + (byte === 0x0a ? 1 : 0), 0)
    throw bad(this.path, headRows + line + 1, `${JSON.stringify(text.trimEnd())} is not a lease line of ${LINE_LENGTH} bytes`)
  }

  #position(line: number): number {
    return this.#headLength + line * LINE_LENGTH
  }

  /** What there is of the wanted bytes; fewer at the end of the file. */
  #bytes(position: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length)
    let read = 0
    while (read < length) {
      const count = readSync(this.#fd, bytes, read, length - read, position + read)
      if (count === 0) break
      read += count
    }
    return bytes.subarray(0, read)
  }
}

function failed(action: string, path: string, cause: unknown): TsnetError {
  return new TsnetError('TSNET_SUBNET_FILE', `Cannot ${action} subnet file "${path}"`, { cniCode: CNI_CODE.io, hint: adviceFor(cause), cause })
}
