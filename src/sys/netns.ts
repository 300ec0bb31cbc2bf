/**
 * Network namespaces. A thread changes namespace, itself alone, only for the length of a synchronous function, and node's
 * thread pool must not be used inside: its threads would be born in, or answer from, the wrong namespace.
 */
import { closeSync, fstatSync, readdirSync, statSync } from 'node:fs'
import { CNI_CODE, isErrno, TsnetError } from '../error.ts'
import { checked, errno, kernelError, libc } from './libc.ts'

// include/uapi/asm-generic/fcntl.h, include/uapi/linux/sched.h, include/uapi/linux/nsfs.h
const O_RDONLY = 0
const O_NOCTTY = 0o400
const O_NONBLOCK = 0o4000
const O_CLOEXEC = 0o2000000
const CLONE_NEWNET = 0x40000000
const NS_GET_NSTYPE = 0xb703

const OWN = '/proc/thread-self/ns/net'

/** How many {@link within} this thread is inside of. */
let depth = 0

/** An open network namespace. Whoever opened it owns the descriptor and disposes it. */
export interface Netns extends Disposable {
  readonly fd: number
  /** The namespace's inode: its identity for as long as it exists. */
  readonly inode: number
  readonly path: string
}

/**
 * Opens a network namespace once, so that nothing that happens to the path later matters.
 * @param path A file under /run/netns, /proc/PID/ns/net, or a bind mount of one.
 * @throws TsnetError with CNI code 8 when the path does not exist or is no network namespace
 */
export function openNetns(path: string): Netns {
  const fd = libc.open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0)
  if (fd < 0) throw invalidNetns(path, { cause: kernelError(`open "${path}"`, errno()) })
  try {
    return { ...borrowNetns(fd, path), [Symbol.dispose]: () => closeSync(fd) }
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

/**
 * @param fd A descriptor that stays the caller's, for as long as the namespace is used.
 * @param path What the namespace is called in records and errors; it may lead elsewhere.
 * @throws TsnetError with CNI code 8 when it is no network namespace
 */
export function borrowNetns(fd: number, path: string): Netns {
  if (libc.ioctl(fd, NS_GET_NSTYPE, 0) !== CLONE_NEWNET) throw invalidNetns(path, { reason: 'it is no network namespace' })
  return { fd, path, inode: fstatSync(fd).ino, [Symbol.dispose]: () => {} }
}

/** Opens the namespace that this thread itself is in. */
export function openOwnNetns(): Netns {
  return openNetns(OWN)
}

/** @returns Whether it is the namespace that this thread itself is in. */
export function isOwnNetns({ inode }: Pick<Netns, 'inode'>): boolean {
  return statSync(OWN).ino === inode
}

/**
 * @returns Whether this process is in the network namespace of process 1: the one whose kernel parameters the machine's own
 * configuration is about. False when that cannot be told.
 */
export function isInMachinesNetns(): boolean {
  const own = inodeOf('/proc/self/ns/net')
  return own !== undefined && inodeOf('/proc/1/ns/net') === own
}

/** @returns The inode of the network namespace at `path`, or undefined when there is none (any more). */
export function netnsInode(path: string): number | undefined {
  using netns = openNetnsIfThere(path)
  return netns?.inode
}

/** @returns undefined when there is no namespace at the path (any more). The caller owns what it returns. */
export function openNetnsIfThere(path: string): Netns | undefined {
  try {
    return openNetns(path)
  } catch (error) {
    if (error instanceof TsnetError && error.cniCode === CNI_CODE.invalidNetns) return undefined
    throw error
  }
}

/**
 * Opens a namespace that is known to live. The path may lead elsewhere by now: that of a process does when the process ends,
 * though others are still in the namespace.
 * @returns undefined when neither the path nor any process leads to it
 */
export function findNetns({ path, inode }: Pick<Netns, 'path' | 'inode'>): Netns | undefined {
  const processes = () => readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? [`/proc/${name}/ns/net`] : []))
  const named = openIfSame(path, inode)
  if (named !== undefined) return named
  for (const candidate of processes()) {
    const found = inodeOf(candidate) === inode ? openIfSame(candidate, inode) : undefined
    if (found !== undefined) return found
  }
  return undefined
}

/** Opened once and then compared: what the path leads to may change in between. */
function openIfSame(path: string, inode: number): Netns | undefined {
  const netns = openNetnsIfThere(path)
  if (netns === undefined || netns.inode === inode) return netns
  netns[Symbol.dispose]()
  return undefined
}

/** @returns undefined for a process that has ended or that this one may not look at. */
function inodeOf(path: string): number | undefined {
  try {
    return statSync(path).ino
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH', 'EACCES')) return undefined
    throw error
  }
}

/**
 * Runs `fn` with this thread inside another network namespace. Its type refuses a function that returns a promise.
 * Aborts the process when the way back fails: nothing that ran on would know where it is.
 */
export function within<T>(netns: Netns, fn: () => T extends PromiseLike<unknown> ? never : T): T {
  const own = checked(libc.open(OWN, O_RDONLY | O_CLOEXEC, 0), 'open the own network namespace')
  try {
    checked(libc.setns(netns.fd, CLONE_NEWNET), `enter the network namespace "${netns.path}"`)
    depth++
    try {
      return fn()
    } finally {
      depth--
      // Not node's abort(), which a worker thread has not.
      if (libc.setns(own, CLONE_NEWNET) < 0) libc.abort()
    }
  } finally {
    closeSync(own)
  }
}

/** @returns Whether this thread is inside another namespace, by {@link within}. */
export function isAway(): boolean {
  return depth > 0
}

function invalidNetns(path: string, why: { readonly reason?: string; readonly cause?: unknown }): TsnetError {
  const gone = isErrno(why.cause, 'ENOENT', 'ENOTDIR')
  return new TsnetError(
    'TSNET_NETNS',
    `Cannot use the network namespace ${JSON.stringify(path)}: ${why.reason ?? (gone ? 'it does not exist' : 'it cannot be opened')}`,
    {
      cniCode: CNI_CODE.invalidNetns,
      hint: 'Give a name under /run/netns, a path, or a process id',
      cause: why.cause,
    },
  )
}
