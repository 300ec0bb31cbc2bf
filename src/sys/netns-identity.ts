/**
 * What a network namespace is told by when nobody holds it open. Its inode does for as long as it exists; then the number is
 * given to the next one, often at once. The kernel's cookie is never given again until a reboot.
 */
import { type BigIntStats, closeSync, fstatSync, readdirSync, readlinkSync, statSync } from 'node:fs'
import { normalize } from 'node:path'
import { CNI_CODE, isErrno, TsnetError } from '../error.ts'
import { bootId } from './boot.ts'
import { missingCapabilities } from './capability.ts'
import { libc } from './libc.ts'
import { type Netns, openNetns, within } from './netns.ts'

// include/uapi/asm-generic/socket.h (SO_NETNS_COOKIE since Linux 5.14), include/linux/socket.h
const SOL_SOCKET = 1
const SO_NETNS_COOKIE = 71
const AF_UNIX = 1
const SOCK_DGRAM_CLOEXEC = 0o2000002

/** A namespace as it is written down. */
export interface NetnsIdentity {
  readonly path: string
  readonly inode: number
  /** Decimal; absent where the kernel has none. */
  readonly cookie?: string
  /** Since when the inode has been in memory, nanoseconds: as long as a mount or descriptor keeps it there, it stays the same. */
  readonly since: string
  readonly bootId: string
  /** Of whoever wrote it down: to somebody with other mounts, or other processes, the namespace may be invisible. */
  readonly view: string
}

/**
 * @param path As a runtime names it. What is another namespace for each who looks (`/proc/self/…`) says nothing.
 * @returns undefined when there is no network namespace at the path
 */
export function identifyNetns(path: string): NetnsIdentity | undefined {
  if (!path.startsWith('/') || /^\/proc\/(self|thread-self)\//.test(normalize(path))) return undefined
  try {
    using netns = openNetns(path)
    const cookie = cookieOf(netns)
    const since = String(fstatSync(netns.fd, { bigint: true }).ctimeNs)
    return { path, inode: netns.inode, since, ...(cookie !== undefined && { cookie }), bootId: bootId(), view: ownView() }
  } catch (error) {
    if (error instanceof TsnetError && error.cniCode === CNI_CODE.invalidNetns) return undefined
    throw error
  }
}

/**
 * Looks at the processes once, for as many questions as there are.
 * @returns Whether it is certain that neither its path nor any process leads to a namespace any more; one of a former boot never does.
 */
export function vanishedNetns(): (identity: NetnsIdentity) => boolean {
  const boot = bootId()
  const view = ownView()
  let processes: ReturnType<typeof processNamespaces> | undefined
  return (identity) => {
    if (identity.bootId !== boot) return true
    const stat = statOf(identity.path)
    if (identity.view !== view || stat === 'hidden') return false
    const atPath = stat?.ino === BigInt(identity.inode)
    // What costs a tenth of a millisecond for each is spared where a mount keeps the namespace, as nearly always.
    if (atPath && String(stat.ctimeNs) === identity.since) return false
    processes ??= atPath ? undefined : processNamespaces()
    const path = atPath ? identity.path : processes?.paths.get(BigInt(identity.inode))
    if (path === undefined) return processes?.complete === true
    const { inode, cookie } = identifyNetns(path) ?? {}
    return inode !== identity.inode || (cookie !== undefined && identity.cookie !== undefined && cookie !== identity.cookie)
  }
}

/**
 * @returns A path to every namespace that a process is in, by inode, and whether that is all that counts: what this capability does
 * not show has capabilities that this process lacks, and is no container of a runtime that runs it.
 */
function processNamespaces() {
  const paths = new Map<bigint, string>()
  for (const name of readdirSync('/proc')) {
    const path = `/proc/${name}/ns/net`
    const stat = /^\d+$/.test(name) ? statOf(path) : undefined
    if (stat !== undefined && stat !== 'hidden') paths.set(stat.ino, path)
  }
  return { paths, complete: missingCapabilities(['CAP_SYS_PTRACE']).length === 0 }
}

/** @returns undefined where nothing is. */
function statOf(path: string): BigIntStats | 'hidden' | undefined {
  try {
    return statSync(path, { bigint: true })
  } catch (error) {
    return isErrno(error, 'ENOENT', 'ENOTDIR', 'ESRCH') ? undefined : 'hidden'
  }
}

function ownView(): string {
  return ['mnt', 'pid'].map((kind) => readlinkSync(`/proc/self/ns/${kind}`)).join(' ')
}

/** @returns undefined where the kernel has none, and for who may not enter the namespace. */
function cookieOf(netns: Netns): string | undefined {
  try {
    return within(netns, ownCookie)
  } catch (error) {
    if (isErrno(error, 'EPERM')) return undefined
    throw error
  }
}

function ownCookie(): string | undefined {
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0)
  if (fd < 0) return undefined
  const cookie = Buffer.alloc(8)
  const failed = libc.getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, new Uint32Array([cookie.length])) < 0
  closeSync(fd)
  return failed ? undefined : String(cookie.readBigUInt64LE())
}
