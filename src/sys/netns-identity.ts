/**
 * What a network namespace is told by when nobody holds it open. Its inode does for as long as it exists; then the number is
 * given to the next one, often at once. The kernel's cookie is never given again until a reboot.
 */
import { closeSync, readlinkSync } from 'node:fs'
import { normalize } from 'node:path'
import { CNI_CODE, isErrno, TsnetError } from '../error.ts'
import { bootId } from './boot.ts'
import { libc } from './libc.ts'
import { type Netns, netnsInode, openNetns, processNamespaces, within } from './netns.ts'

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
    return { path, inode: netns.inode, ...(cookie !== undefined && { cookie }), bootId: bootId(), view: ownView() }
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
  let processes: ReadonlyMap<number, string> | undefined
  return (identity) => {
    if (identity.bootId !== boot) return true
    if (identity.view !== view) return false
    const atPath = netnsInode(identity.path) === identity.inode
    processes ??= atPath ? undefined : processNamespaces()
    const path = atPath ? identity.path : processes?.get(identity.inode)
    const cookie = path === undefined ? undefined : identifyNetns(path)?.cookie
    return path === undefined || (cookie !== undefined && identity.cookie !== undefined && cookie !== identity.cookie)
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
