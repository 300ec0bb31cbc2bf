/** Advisory locks between processes: flock(2) on a file of its own. */
import { closeSync, constants, fstatSync, openSync, type Stats, statSync } from 'node:fs'
import { CNI_CODE, TsnetError } from '../error.ts'
import { errno, kernelError, libc } from './libc.ts'
import { adviceFor, requireOwn } from './state-file.ts'
import { remainingMs } from './time-limit.ts'

// asm-generic/fcntl.h, asm-generic/errno-base.h
const LOCK_SH = 1
const LOCK_EX = 2
const LOCK_NB = 4
const EINTR = 4
const EAGAIN = 11

const SHORTEST_WAIT_MS = 0.2
const LONGEST_WAIT_MS = 10
const LONGEST_ATTEMPT_MS = 30_000

export interface LockOptions {
  /** Milliseconds until the attempt is given up; default, and never more than, what is left of the call's time limit, or 30 000. */
  readonly timeoutMs?: number
  /** Whether no other holder may exist, shared ones included; default true. */
  readonly exclusive?: boolean
  /** Whether it may be another user's or open to others, in a folder that is other programs' too; default false. */
  readonly foreign?: boolean
}

const heldFds = new Set<number>()

/**
 * ADD starts a program that writes rules, and is killed; DEL finds no rules, removes the rest, and releases the address; now the
 * program writes its rules, which lead to whoever has the address next. So it inherits the locks: they are held until it ends too.
 * @returns The descriptors of all locks that this thread holds.
 */
export function heldLocks(): readonly number[] {
  return [...heldFds]
}

/** A lock that is held until it is disposed of, or until the process ends. Owns its fd. */
export class FileLock implements Disposable {
  readonly path: string
  #fd: number

  constructor(path: string, fd: number) {
    this.path = path
    this.#fd = fd
    heldFds.add(fd)
  }

  [Symbol.dispose](): void {
    if (this.#fd < 0) return
    heldFds.delete(this.#fd)
    closeSync(this.#fd)
    this.#fd = -1
  }
}

/**
 * Takes a lock, and waits for it as long as the time limit allows. Two locks of one process on the same path exclude each other as well.
 * @param path A file that is made, mode 0600, when it is missing; its folder must exist. A symbolic link is refused.
 * @returns The lock, on the file that `path` names at this moment.
 * @throws TsnetError TSNET_LOCK_TIMEOUT (CNI code 11) when others hold it all the time
 * @throws TsnetError TSNET_LOCK (CNI code 5) when the file cannot be opened; TSNET_STATE (5) when it is another user's, or open to others
 * @throws KernelError when flock(2) itself fails
 */
export function lockFile(path: string, options: LockOptions = {}): FileLock {
  const { exclusive = true, foreign = false } = options
  const timeoutMs = Math.round(Math.min(options.timeoutMs ?? Number.POSITIVE_INFINITY, remainingMs(LONGEST_ATTEMPT_MS)))
  const operation = (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB
  // Waits are summed instead of reading a clock: a clock may jump.
  let waited = 0
  let wait = SHORTEST_WAIT_MS
  for (;;) {
    const fd = open(path)
    let kept = false
    try {
      const held = fstatSync(fd)
      if (!foreign) requireOwn(path, held)
      while (!tryLock(fd, operation, path)) {
        if (waited >= timeoutMs) throw timeout(path, timeoutMs)
        const pause = Math.min(wait, timeoutMs - waited)
        sleep(pause)
        waited += pause
        wait = Math.min(wait * 2, LONGEST_WAIT_MS)
      }
      // A opens the file, B removes the network and the file with it, C makes a new one: A would hold a lock that nobody looks at.
      kept = isStill(held, path)
      if (kept) return new FileLock(path, fd)
    } finally {
      if (!kept) closeSync(fd)
    }
  }
}

function open(path: string): number {
  try {
    return openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600)
  } catch (cause) {
    throw new TsnetError('TSNET_LOCK', `Cannot open lock file "${path}"`, { cniCode: CNI_CODE.io, hint: adviceFor(cause), cause })
  }
}

function tryLock(fd: number, operation: number, path: string): boolean {
  if (libc.flock(fd, operation) === 0) return true
  const code = errno()
  if (code === EAGAIN || code === EINTR) return false
  throw kernelError(`lock "${path}"`, code)
}

function isStill(held: Stats, path: string): boolean {
  const named = statSync(path, { throwIfNoEntry: false })
  return named !== undefined && named.ino === held.ino && named.dev === held.dev
}

function sleep(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}

function timeout(path: string, timeoutMs: number): TsnetError {
  return new TsnetError('TSNET_LOCK_TIMEOUT', `Cannot lock "${path}": another process has held it for ${timeoutMs} ms`, {
    cniCode: CNI_CODE.tryAgain,
  })
}
