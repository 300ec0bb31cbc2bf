/** Blocking unix sockets that carry descriptors (SCM_RIGHTS), which node's own cannot receive. */
import { closeSync } from 'node:fs'
import { TsnetError } from '../error.ts'
import { EAGAIN, EINTR } from './errno.ts'
import { allocate, checked, errno, kernelError, libc } from './libc.ts'
import { agentLibc } from './libc-agent.ts'

// include/linux/socket.h, include/uapi/asm-generic/socket.h
const AF_UNIX = 1
const SOCK_STREAM = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_TYPE = 3
const SO_PEERCRED = 17
const SO_SNDTIMEO = 21
const SO_ACCEPTCONN = 30
const SO_DOMAIN = 39
const SCM_RIGHTS = 1
const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000
const MSG_CMSG_CLOEXEC = 0x40000000
// include/uapi/asm-generic/ioctls.h
const FIOCLEX = 0x5451

/** sizeof(sun_path), with its 0. */
const LONGEST_PATH = 108

/** @param backlog How many connections may wait to be accepted. @returns A socket that listens; whoever called owns it. @throws KernelError */
export function listenUnix(path: string, backlog: number): number {
  const address = unixAddress(path)
  const fd = checked(libc.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), 'open a unix socket')
  try {
    checked(libc.bind(fd, address, address.length), `bind "${path}"`)
    checked(agentLibc.listen(fd, backlog), `listen on "${path}"`)
    return fd
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

/** Takes over a descriptor that a service manager handed down. @throws TsnetError when it is no unix socket that listens */
export function adoptListener(fd: number): number {
  const option = (name: number) => readOption(fd, name, 4)?.getInt32(0, true)
  if (option(SO_DOMAIN) !== AF_UNIX || option(SO_TYPE) !== SOCK_STREAM || option(SO_ACCEPTCONN) !== 1)
    throw new TsnetError('TSNET_AGENT', `Cannot serve on descriptor ${fd}: it is no unix stream socket that listens`)
  checked(libc.ioctl(fd, FIOCLEX, 0), 'close a socket on exec')
  return fd
}

/** @returns A connection, which the caller owns; undefined when its other end has gone already. */
export function acceptUnix(listener: number, sendTimeoutSeconds: number): number | undefined {
  const fd = agentLibc.accept4(listener, null, null, SOCK_CLOEXEC)
  if (fd < 0) return undefined
  const timeout = new Uint8Array(new BigInt64Array([BigInt(sendTimeoutSeconds), 0n]).buffer)
  libc.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, timeout, timeout.length)
  return fd
}

/** @returns The user at the other end; undefined when the kernel does not say. */
export function peerUserID(fd: number): number | undefined {
  return readOption(fd, SO_PEERCRED, 12)?.getUint32(4, true)
}

/** Sends all of it, unless the other end is gone or takes nothing for as long as acceptUnix() was told. @returns Whether all was sent */
export function sendAll(fd: number, data: Uint8Array): boolean {
  for (let sent = 0; sent < data.length; ) {
    const count = Number(libc.send(fd, data.subarray(sent), data.length - sent, MSG_NOSIGNAL))
    if (count > 0) sent += count
    else if (errno() !== EINTR) return false
  }
  return true
}

/** Sends one datagram to a socket by its name, `@` for an abstract one. @returns Whether it was taken */
export function sendDatagram(path: string, text: string): boolean {
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  if (fd < 0) return false
  const address = unixAddress(path)
  const data = Buffer.from(text)
  try {
    return Number(agentLibc.sendto(fd, data, data.length, MSG_NOSIGNAL, address, address.length)) === data.length
  } finally {
    closeSync(fd)
  }
}

export interface Received {
  /** A view that the next call overwrites. Empty: the other end has closed. */
  readonly data: Uint8Array
  /** Close-on-exec; the caller owns them. */
  readonly fds: readonly number[]
}

const DATA_SIZE = 65536
const CONTROL_SIZE = 256
const CONTROL = 64
const DATA = CONTROL + CONTROL_SIZE
let memory: { readonly address: bigint; readonly view: DataView; readonly bytes: Uint8Array } | undefined

/**
 * Receives what is there.
 * @param limit Bytes at most.
 * @returns undefined when nothing is there yet
 * @throws KernelError
 */
export function receive(fd: number, limit: number): Received | undefined {
  memory ??= withView(allocate(DATA + DATA_SIZE))
  const { address, view, bytes } = memory
  // struct msghdr at 0, struct iovec at 48, the control message and the data after them; 64 bit, little endian.
  for (const [offset, value] of [0n, 0n, address + 48n, 1n, address + BigInt(CONTROL), BigInt(CONTROL_SIZE)].entries()) {
    view.setBigUint64(8 * offset, value, true)
  }
  view.setBigUint64(48, address + BigInt(DATA), true)
  view.setBigUint64(56, BigInt(Math.min(limit, DATA_SIZE)), true)
  const count = Number(agentLibc.recvmsg(fd, address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC))
  if (count >= 0) return { data: bytes.subarray(DATA, DATA + count), fds: descriptors(view) }
  const code = errno()
  if (code === EAGAIN || code === EINTR) return undefined
  throw kernelError('receive a request', code)
}

/** struct cmsghdr is { size_t length; int level; int type; data }, each beginning at a multiple of 8. */
function descriptors(view: DataView): readonly number[] {
  const end = CONTROL + Number(view.getBigUint64(40, true))
  const fds: number[] = []
  for (let at = CONTROL; at + 16 <= end; ) {
    const length = Number(view.getBigUint64(at, true))
    if (length < 16) break
    if (view.getInt32(at + 8, true) === SOL_SOCKET && view.getInt32(at + 12, true) === SCM_RIGHTS) {
      for (let i = at + 16; i + 4 <= Math.min(at + length, end); i += 4) fds.push(view.getInt32(i, true))
    }
    at += Math.ceil(length / 8) * 8
  }
  return fds
}

function withView({ address, bytes }: ReturnType<typeof allocate>) {
  return { address, bytes, view: new DataView(bytes.buffer) }
}

function readOption(fd: number, name: number, size: number): DataView | undefined {
  const value = new Uint8Array(size)
  const length = new Uint32Array([size])
  return agentLibc.getsockopt(fd, SOL_SOCKET, name, value, length) === 0 && length[0] === size ? new DataView(value.buffer) : undefined
}

/** @returns struct sockaddr_un. @throws TsnetError for a path that it has no room for */
export function unixAddress(path: string): Uint8Array {
  const name = Buffer.from(path)
  if (name.length === 0 || name.length >= LONGEST_PATH) {
    throw new TsnetError('TSNET_AGENT', `Cannot use the socket ${JSON.stringify(path)}: its path has to be shorter than ${LONGEST_PATH} bytes`)
  }
  if (path.startsWith('@')) name[0] = 0
  const bytes = new Uint8Array(2 + name.length + (path.startsWith('@') ? 0 : 1))
  bytes.set(new Uint8Array(new Uint16Array([AF_UNIX]).buffer))
  bytes.set(name, 2)
  return bytes
}
