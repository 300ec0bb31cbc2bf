/**
 * Files of the state folder: nobody else's, written as a whole or not at all, and, where the folder is on a disk instead of in
 * memory, on the disk before anybody is told (docs/decisions/0015).
 */
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  type Stats,
  statfsSync,
  statSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { CNI_CODE, isErrno, KernelError, TsnetError } from '../error.ts'
import { EINTR, ENOENT, ENOTDIR } from './errno.ts'
import { errno, kernelError, libc } from './libc.ts'

const { O_RDONLY, O_NOFOLLOW } = constants
// include/uapi/asm-generic/fcntl.h, which node's constants lack
const O_CLOEXEC = 0o2000000
// include/uapi/linux/magic.h: tmpfs, ramfs
const IN_MEMORY = [0x01021994, 0x858458f6]
/** Nobody but the owner. */
const OTHERS = 0o077

/** By folder; a folder does not move to another file system while a process runs. */
const onDisk = new Map<string, boolean>()

/** Of this process. */
let userID: number | undefined

/** What tells whose a file is. */
export type Ownership = Pick<Stats, 'uid' | 'mode'>

/** @param path Of a folder that exists. @throws TsnetError TSNET_STATE, CNI code 5, when it is another user's, or open to others */
export function requireOwnFolder(path: string): void {
  requireOwn(path, statSync(path))
}

/** @throws TsnetError TSNET_STATE, CNI code 5, when the file is another user's, or open to others */
export function requireOwn(path: string, { uid, mode }: Ownership): void {
  userID ??= libc.geteuid()
  const text = JSON.stringify(path)
  if (uid !== userID)
    throw refuse(
      `Cannot use ${text}: it belongs to user ${uid}, not to user ${userID}`,
      `Whoever it is could have written it; if that is right: chown ${userID} ${text}`,
    )
  if ((mode & OTHERS) === 0) return
  const wanted = (mode & constants.S_IFMT) === constants.S_IFDIR ? '0700' : '0600'
  throw refuse(
    `Cannot use ${text}: it is open to other users (mode 0${(mode & 0o777).toString(8)})`,
    `chmod ${wanted} ${text}, once you know that nobody has changed it`,
  )
}

/** @returns The file's text, or undefined when there is none. @throws TsnetError TSNET_STATE, CNI code 5, when it is not ours or cannot be read */
export function readOwnFile(path: string): string | undefined {
  return read(path, (held) => requireOwn(path, held))
}

/** @returns The text of a file that is other programs' too, or undefined when there is none. @throws TsnetError TSNET_STATE, CNI code 5 */
export function readForeignFile(path: string): string | undefined {
  return read(path, () => {})
}

function read(path: string, inspect: (held: Stats) => void): string | undefined {
  try {
    const fd = openIfThere(path)
    if (fd === undefined) return undefined
    try {
      const stat = fstatSync(fd)
      inspect(stat)
      return readAll(fd, stat.size)
    } finally {
      closeSync(fd)
    }
  } catch (cause) {
    throw failed('read', path, cause)
  }
}

/** Most files that are looked for are not there, and an exception of node's costs more than all the rest. */
function openIfThere(path: string): number | undefined {
  for (;;) {
    const fd = libc.open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0)
    if (fd >= 0) return fd
    const code = errno()
    if (code === ENOENT || code === ENOTDIR) return undefined
    if (code !== EINTR) throw kernelError(`open ${JSON.stringify(path)}`, code)
  }
}

/**
 * Writes beside the file and renames over it: a reader, or the next process after a kill, finds the old content or the new.
 * @param sync Whether it has to outlast a loss of power, where the folder is on a disk.
 * @throws TsnetError TSNET_STATE, CNI code 5; then the old content is still there
 */
export function replaceFile(path: string, content: string | Uint8Array, sync = true): void {
  const unfinished = `${path}.new`
  try {
    const fd = openForWriting(unfinished)
    try {
      const bytes = Buffer.from(content)
      for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at)
      if (sync) syncFile(fd, dirname(path))
    } finally {
      closeSync(fd)
    }
    renameSync(unfinished, path)
    if (sync) syncFolder(dirname(path))
  } catch (cause) {
    removeIfPossible(unfinished)
    throw failed('write', path, cause)
  }
}

/** Removes a file if it is there. @throws TsnetError TSNET_STATE, CNI code 5 */
export function removeFile(path: string): void {
  try {
    rmSync(path, { force: true })
  } catch (cause) {
    throw failed('remove', path, cause)
  }
}

/** Makes a folder, mode 0700, and those above it. @throws TsnetError TSNET_STATE, CNI code 5 */
export function makeFolder(path: string): void {
  try {
    const first = mkdirSync(path, { recursive: true, mode: 0o700 })
    if (first === undefined) return
    for (let made = path; made.length >= first.length; made = dirname(made)) syncFolder(dirname(made))
  } catch (cause) {
    throw failed('make folder', path, isErrno(cause, 'ENOENT') ? reasonOf(path) : cause)
  }
}

/** Making folders one by one says why; making them recursively, node says of a read-only disk that there is no such folder. */
function reasonOf(path: string): unknown {
  try {
    mkdirSync(existsSync(dirname(path)) ? path : dirname(path), { mode: 0o700 })
    return undefined
  } catch (error) {
    return isErrno(error, 'ENOENT') ? reasonOf(dirname(path)) : error
  }
}

/** What was written to a file outlasts a loss of power from now on. @param folder Where it lies. */
export function syncFile(fd: number, folder: string): void {
  if (isOnDisk(folder)) fsyncSync(fd)
}

/** @returns Whether what is written to a folder waits in memory for the disk. */
export function isOnDisk(folder: string): boolean {
  const known = onDisk.get(folder) ?? !IN_MEMORY.includes(statfsSync(folder).type)
  onDisk.set(folder, known)
  return known
}

/** The names in a folder outlast it, too. */
function syncFolder(folder: string): void {
  if (!isOnDisk(folder)) return
  const fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    fsyncSync(fd)
  } catch (error) {
    // Some network and FUSE file systems cannot sync a folder.
    if (!isErrno(error, 'EINVAL', 'ENOTSUP', 'EBADF')) throw error
  } finally {
    closeSync(fd)
  }
}

function openForWriting(path: string): number {
  const open = () => openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW, 0o600)
  try {
    return open()
  } catch (error) {
    if (!isErrno(error, 'ENOENT') || existsSync(dirname(path))) throw error
    makeFolder(dirname(path))
    return open()
  }
}

function readAll(fd: number, size: number): string {
  const bytes = Buffer.allocUnsafe(size)
  let read = 0
  while (read < size) {
    const count = readSync(fd, bytes, read, size - read, read)
    if (count === 0) break
    read += count
  }
  return bytes.toString('utf8', 0, read)
}

/** On a full disk it would be in the way of whatever comes next. */
function removeIfPossible(path: string): void {
  try {
    rmSync(path, { force: true })
  } catch {
    // What keeps it from being removed is what kept it from being written, and is told.
  }
}

function failed(action: string, path: string, cause: unknown): TsnetError {
  if (cause instanceof TsnetError && !(cause instanceof KernelError)) return cause
  return new TsnetError('TSNET_STATE', `Cannot ${action} ${JSON.stringify(path)}`, { cniCode: CNI_CODE.io, hint: adviceFor(cause), cause })
}

/** @returns What helps against the errno of a file that cannot be read or written. */
export function adviceFor(error: unknown): string {
  const cause = error instanceof TsnetError ? error.cause : error
  if (isErrno(cause, 'ENOSPC', 'EDQUOT')) return 'The disk is full: free some space; df says where'
  if (isErrno(cause, 'EROFS')) return 'The file system is read-only: mount it writable, or give another folder in TSNET_STATE_DIR'
  if (isErrno(cause, 'EACCES', 'EPERM')) return 'This user may not: run it as root'
  return 'See what lies there, and the messages of the kernel'
}

function refuse(message: string, hint: string): TsnetError {
  return new TsnetError('TSNET_STATE', message, { cniCode: CNI_CODE.io, hint })
}
