/** The client's UDP port, occupied while a packet socket listens: the kernel would answer the server's messages with "port unreachable" otherwise. */
import { closeSync } from 'node:fs'
import { checked, libc } from '../sys/libc.ts'
import { CLIENT_PORT } from './frame.ts'

// include/linux/socket.h, include/uapi/asm-generic/socket.h
const AF_INET = 2
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_REUSEADDR = 2
const SO_RCVBUF = 8
const SO_BINDTODEVICE = 25
/** sizeof(struct sockaddr_in) */
const ADDRESS_SIZE = 16

/**
 * Runs in the namespace that the thread is in.
 * @returns A socket that nobody reads, and that the caller owns; undefined when another process has the port, which is as good
 * @throws KernelError when there are no more sockets
 */
export function occupyClientPort(ifname: string): number | undefined {
  const fd = checked(libc.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), 'open a UDP socket')
  const option = (name: number, value: Uint8Array) => libc.setsockopt(fd, SOL_SOCKET, name, value, value.length)
  const address = new DataView(new ArrayBuffer(ADDRESS_SIZE))
  address.setUint16(0, AF_INET, true)
  address.setUint16(2, CLIENT_PORT)
  option(SO_REUSEADDR, Uint8Array.of(1, 0, 0, 0))
  option(SO_RCVBUF, Uint8Array.of(1, 0, 0, 0))
  const isOurs = option(SO_BINDTODEVICE, Buffer.from(`${ifname}\0`)) === 0 && libc.bind(fd, new Uint8Array(address.buffer), ADDRESS_SIZE) === 0
  if (isOurs) return fd
  closeSync(fd)
  return undefined
}
