/** Whether a port can be had: the kernel is asked with a socket of the kind that a server would open, closed again at once. */
import { checked, errno, libc } from './libc.ts'

// include/uapi/asm-generic/socket.h, include/linux/net.h, include/uapi/linux/in.h, in6.h
const AF_INET = 2
const AF_INET6 = 10
const SOCK_STREAM = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_REUSEADDR = 2
const IPPROTO_IPV6 = 41
const IPV6_V6ONLY = 26
const IPPROTO_SCTP = 132
const ON = new Uint8Array(new Uint32Array([1]).buffer)

// include/uapi/asm-generic/errno.h
const EPROTONOSUPPORT = 93
const ESOCKTNOSUPPORT = 94
const EAFNOSUPPORT = 97
const EADDRINUSE = 98
const EADDRNOTAVAIL = 99

export interface Endpoint {
  readonly protocol: 'tcp' | 'udp' | 'sctp'
  /** 4 or 16 bytes; all 0 stands for every address of that family. */
  readonly address: Uint8Array
  readonly port: number
}

/**
 * `free`: it can be had; `taken`: another socket has it; `foreign`: the address is not of this namespace;
 * `unknown`: the kernel does not say (no CAP_NET_BIND_SERVICE, an address that needs an interface, a filter of binds).
 */
export type Binding = 'free' | 'taken' | 'foreign' | 'unknown'

/**
 * Asks in the current network namespace. TCP is asked with SO_REUSEADDR, so that only a socket that listens, or that did
 * not agree to share, refuses; UDP without, since two that agreed to share would both be told yes. The socket never listens.
 * @throws KernelError when no socket can be had, as with too many open files
 * @see net/ipv4/inet_connection_sock.c, inet_csk_get_port()
 */
export function tryBind({ protocol, address, port }: Endpoint): Binding {
  const family = address.length === 4 ? AF_INET : AF_INET6
  const fd = libc.socket(family, (protocol === 'udp' ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, protocol === 'sctp' ? IPPROTO_SCTP : 0)
  // What the kernel does not speak nobody can listen to.
  if (fd < 0 && [EPROTONOSUPPORT, ESOCKTNOSUPPORT, EAFNOSUPPORT].includes(errno())) return 'free'
  checked(fd, 'open a socket')
  try {
    if (protocol === 'tcp') checked(libc.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, ON, ON.length), 'set SO_REUSEADDR')
    if (family === AF_INET6) checked(libc.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, ON, ON.length), 'set IPV6_V6ONLY')
    const name = socketAddress(family, address, port)
    if (libc.bind(fd, name, name.length) === 0) return 'free'
    const code = errno()
    return code === EADDRINUSE ? 'taken' : code === EADDRNOTAVAIL ? 'foreign' : 'unknown'
  } finally {
    libc.close(fd)
  }
}

/** struct sockaddr_in and sockaddr_in6. */
function socketAddress(family: number, address: Uint8Array, port: number): Uint8Array {
  const bytes = new Uint8Array(family === AF_INET ? 16 : 28)
  bytes.set(new Uint8Array(new Uint16Array([family]).buffer))
  bytes[2] = port >> 8
  bytes[3] = port & 0xff
  bytes.set(address, family === AF_INET ? 4 : 8)
  return bytes
}
