/**
 * A network's folder as host-local keeps it: a file for each reserved address, named by the address, which says who has it;
 * `last_reserved_ip.<set>`; and `lock`. The reference plugin may work in the same folder at the same time.
 * @see containernetworking/plugins plugins/ipam/host-local/backend/disk/backend.go
 */
import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { isErrno } from '../../error.ts'
import { type FileLock, lockFile } from '../../sys/lock.ts'
import { writePlainFile } from '../../sys/plain-file.ts'
import { formatAddress, type IpAddress, parseAddress } from '../../wire/ip-address.ts'

const LAST_RESERVED = 'last_reserved_ip.'
/** Where a reservation is written before it gets its name; whatever a killed process left there is written over. */
const DRAFT = '.tsnet-draft'
/** More than a container id and an interface name take. */
const BUFFER = Buffer.alloc(4096)

/** Who has an address. */
export interface Holder {
  readonly containerID: string
  /** Absent in files of old versions of host-local: all interfaces of the container. */
  readonly ifname?: string
}

/** A file of the folder. */
export interface Reservation {
  /** As Go writes it, which is also the file's name. */
  readonly address: string
  /** Undefined when the file is empty, which nobody wrote on purpose. */
  readonly holder: Holder | undefined
  /** The file itself, whatever it holds: inode and time of change of its content. */
  readonly stamp: string
  /** Milliseconds since its content changed. */
  readonly ageMs: number
}

export class ReservationFolder implements Disposable {
  readonly path: string
  readonly #lock: FileLock
  #draft: Holder | undefined

  private constructor(path: string, lock: FileLock) {
    this.path = path
    this.#lock = lock
  }

  /**
   * Makes the folder where it is missing, and locks it as the reference plugin does.
   * @param timeoutMs How long to wait for the lock.
   * @throws TsnetError TSNET_LOCK_TIMEOUT, CNI code 11; TSNET_LOCK, CNI code 5
   */
  static open(path: string, timeoutMs: number): ReservationFolder {
    makeFolder(path)
    return new ReservationFolder(path, lockFile(join(path, 'lock'), { timeoutMs, foreign: true }))
  }

  /** @returns Its stamp; undefined when the address is taken. */
  reserve(address: string, holder: Required<Holder>): string | undefined {
    this.#write(holder)
    const path = join(this.path, address)
    try {
      // A link comes into being with all its content: no kill leaves an empty file, which would block its address.
      linkSync(join(this.path, DRAFT), path)
    } catch (error) {
      if (isErrno(error, 'EEXIST')) return undefined
      throw error
    }
    // The name goes on to belong to the reservation; the next one needs a file of its own.
    this.#discardDraft()
    return stampOf(path)
  }

  /** @returns The file of an address, or undefined when nobody has it. */
  read(address: string): Reservation | undefined {
    const file = readFile(join(this.path, address))
    if (file === undefined) return undefined
    const { ino, mtimeNs, mtimeMs } = file.stat
    return { address, holder: parseHolder(file.text), stamp: `${ino}:${mtimeNs}`, ageMs: Date.now() - Number(mtimeMs) }
  }

  /** Gives an address back, whoever had it. */
  release(address: string): void {
    unlinkIfThere(join(this.path, address))
  }

  /** @returns The addresses that have a file. */
  names(): readonly string[] {
    return readdirSync(this.path).filter((name) => parseAddress(name) !== undefined)
  }

  /** @returns What was handed out last from a set; undefined when nobody knows. */
  lastReserved(setIndex: number): IpAddress | undefined {
    return parseAddress(readFile(join(this.path, `${LAST_RESERVED}${setIndex}`))?.text.trim() ?? '')
  }

  setLastReserved(setIndex: number, address: IpAddress): void {
    writePlainFile(join(this.path, `${LAST_RESERVED}${setIndex}`), formatAddress(address))
  }

  /** @returns When files last came or went, nanoseconds. */
  changed(): string {
    return String(lstatSync(this.path, { bigint: true }).mtimeNs)
  }

  /**
   * Makes the present state recognisable: whoever changes it afterwards sets another time, since this one lies in the past. The
   * kernel's own times would not do, because they stand still for some milliseconds.
   */
  mark(): string {
    const past = Date.now() / 1000 - 1 - Math.random()
    utimesSync(this.path, past, past)
    return this.changed()
  }

  [Symbol.dispose](): void {
    try {
      this.#discardDraft()
    } finally {
      this.#lock[Symbol.dispose]()
    }
  }

  #write(holder: Required<Holder>): void {
    if (this.#draft === holder) return
    const path = join(this.path, DRAFT)
    unlinkIfThere(path)
    this.#draft = holder
    writeFileSync(path, `${holder.containerID}\r\n${holder.ifname}`, { mode: 0o600, flag: 'wx' })
  }

  #discardDraft(): void {
    if (this.#draft === undefined) return
    unlinkIfThere(join(this.path, DRAFT))
    this.#draft = undefined
  }
}

/** Only where what is above is missing too node is asked for all of it: of a file system that is read-only it would say that nothing is there. */
function makeFolder(path: string): void {
  try {
    mkdirSync(path, { mode: 0o755 })
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return
    if (!isErrno(error, 'ENOENT')) throw error
    mkdirSync(path, { recursive: true, mode: 0o755 })
  }
}

/** Readers of the reference plugin trim what they read. */
function parseHolder(content: string): Holder | undefined {
  const [containerID = '', ifname] = content.trim().split(/\r?\n/, 2)
  if (containerID === '') return undefined
  return { containerID, ...(ifname !== undefined && { ifname }) }
}

function stampOf(path: string): string {
  const { ino, mtimeNs } = lstatSync(path, { bigint: true })
  return `${ino}:${mtimeNs}`
}

/** @returns undefined when there is no regular file of that name. */
function readFile(path: string): { readonly text: string; readonly stat: BigIntStats } | undefined {
  let fd: number
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ELOOP')) return undefined
    throw error
  }
  try {
    const stat = fstatSync(fd, { bigint: true })
    if (!stat.isFile()) return undefined
    return { text: BUFFER.toString('utf8', 0, readSync(fd, BUFFER, 0, BUFFER.length, 0)), stat }
  } finally {
    closeSync(fd)
  }
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
}
