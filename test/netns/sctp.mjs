// SCTP for test/netns/talker.mjs: node has none, but reads, writes and accepts on any stream socket that it is given open.
import koffi from 'koffi'

// include/linux/net.h, include/uapi/asm-generic/socket.h, include/uapi/linux/in.h, in6.h
const AF_INET = 2
const AF_INET6 = 10
const SOCK_STREAM = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const IPPROTO_SCTP = 132
const SOL_SOCKET = 1
const SO_SNDTIMEO = 21
const IPPROTO_IPV6 = 41
const IPV6_V6ONLY = 26

const libc = koffi.load(null)
const socket = libc.func('int socket(int domain, int type, int protocol)')
const bind = libc.func('int bind(int fd, const uint8_t *address, unsigned int length)')
const connect = libc.func('int connect(int fd, const uint8_t *address, unsigned int length)')
const setsockopt = libc.func('int setsockopt(int fd, int level, int option, const uint8_t *value, unsigned int length)')
const getsockname = libc.func('int getsockname(int fd, _Out_ uint8_t *address, _Inout_ unsigned int *length)')
const inetPton = libc.func('int inet_pton(int family, const char *text, _Out_ uint8_t *address)')
const close = libc.func('int close(int fd)')

/** @returns The fd of a bound socket, for net.Server.listen(). */
export function bindSctp(address, port) {
  return open({ address, port }, (fd, name) => bind(fd, name, name.length))
}

/**
 * Waits for the association; the kernels alone make it, so that a server of this very process may be asked.
 * @returns The fd of a connected socket, for net.Socket
 */
export function connectSctp(address, port, timeoutMs) {
  const own = sourceTowards(address, port)
  return open({ address, port }, (fd, name) => {
    // Else the client lists all its addresses, which NAT does not translate: a server would take two clients behind one for the same.
    if (bind(fd, own, own.length) !== 0) return -1
    const limit = new BigInt64Array([BigInt(Math.floor(timeoutMs / 1000)), BigInt((timeoutMs % 1000) * 1000)])
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, new Uint8Array(limit.buffer), limit.byteLength)
    return connect(fd, name, name.length)
  })
}

/** A socket of UDP is told at once when there is no route, where SCTP over IPv6 tries on. @returns The address that the kernel chooses, without a port */
function sourceTowards(address, port) {
  const own = socketAddress(address, 0)
  const fd = open(
    { address, port, type: SOCK_DGRAM, protocol: 0 },
    (fd, name) => connect(fd, name, name.length) || getsockname(fd, own, [own.length]),
  )
  close(fd)
  own.fill(0, 2, 4)
  return own
}

function open({ address, port, type = SOCK_STREAM, protocol = IPPROTO_SCTP }, use) {
  const family = familyOf(address)
  const fd = socket(family, type | SOCK_CLOEXEC, protocol)
  if (fd < 0) throw lastError()
  if (family === AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, Uint8Array.of(1, 0, 0, 0), 4)
  if (use(fd, socketAddress(address, port)) === 0) return fd
  const error = lastError()
  close(fd)
  throw error
}

function lastError() {
  const number = koffi.errno()
  const name = Object.keys(koffi.os.errno).find((key) => koffi.os.errno[key] === number)
  // What connect() says when SO_SNDTIMEO is over.
  return name === 'EINPROGRESS' || name === 'EAGAIN' ? new Error('no answer') : Object.assign(new Error(name), { code: name })
}

/** struct sockaddr_in and sockaddr_in6. */
function socketAddress(address, port) {
  const family = familyOf(address)
  const bytes = new Uint8Array(family === AF_INET ? 16 : 28)
  bytes.set([family & 0xff, family >> 8, port >> 8, port & 0xff])
  inetPton(family, address, bytes.subarray(family === AF_INET ? 4 : 8))
  return bytes
}

function familyOf(address) {
  return address.includes(':') ? AF_INET6 : AF_INET
}
