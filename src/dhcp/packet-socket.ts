/**
 * The socket of a DHCP client: it sends and receives whole frames, since there is no address yet that an ordinary one could
 * use. It lives as long as an answer is awaited. @see packet(7)
 */

import { closeSync } from 'node:fs'
import { isErrno } from '../error.ts'
import { EAGAIN, EINTR, ENETDOWN } from '../sys/errno.ts'
import { allocate, checked, errno, type FixedMemory, kernelError, libc } from '../sys/libc.ts'
import type { ServerAddress } from './client-message.ts'
import { occupyClientPort } from './client-port.ts'
import { BROADCAST_ADDRESS, BROADCAST_MAC, CLIENT_PORT, decodeFrame, encodeFrame, SERVER_PORT } from './frame.ts'
import type { Answer } from './lease.ts'
import { type DhcpMessage, decodeMessage, encodeMessage } from './message.ts'

// include/linux/socket.h, include/uapi/asm-generic/socket.h, include/uapi/linux/if_ether.h
const AF_PACKET = 17
const SOCK_RAW = 3
const SOCK_NONBLOCK = 0o4000
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_ATTACH_FILTER = 26
const ETH_P_IP = 0x0800
/** sizeof(struct sockaddr_ll), include/uapi/linux/if_packet.h */
const ADDRESS_SIZE = 20
const LARGEST_FRAME = 65536
/** Read in one turn. */
const MOST_FRAMES = 64

/**
 * Only whole UDP datagrams of IPv4 to the client's port: a busy container would wake the daemon for every packet otherwise.
 * Each line is { code, jump if true, jump if false, constant }. @see kernel Documentation/networking/filter.rst
 */
const FILTER: readonly (readonly [number, number, number, number])[] = [
  [0x28, 0, 0, 12], // ldh [12]: the Ethernet type
  [0x15, 0, 8, ETH_P_IP],
  [0x30, 0, 0, 23], // ldb [23]: the protocol
  [0x15, 0, 6, 17],
  [0x28, 0, 0, 20], // ldh [20]: flags and fragment offset
  [0x45, 4, 0, 0x3fff],
  [0xb1, 0, 0, 14], // ldxb 4*([14]&0xf): the header's length
  [0x48, 0, 0, 16], // ldh [x+16]: the destination port
  [0x15, 0, 1, CLIENT_PORT],
  [0x06, 0, 0, LARGEST_FRAME],
  [0x06, 0, 0, 0],
]

let filterProgram: FixedMemory | undefined
const buffer = Buffer.alloc(LARGEST_FRAME)

/** An interface of the namespace. */
export interface BoundTo {
  readonly index: number
  readonly name: string
  /** 6 bytes. */
  readonly mac: Uint8Array
}

export class PacketSocket implements Disposable {
  readonly fd: number
  /** The interface's, 6 bytes. */
  readonly mac: Uint8Array
  readonly #port: number | undefined

  /** Opens it in the namespace that the thread is in. @throws KernelError */
  constructor({ index, name, mac }: BoundTo) {
    this.mac = mac
    // Bound to nothing (protocol 0) it receives nothing, so that no frame gets past the filter.
    this.fd = checked(libc.socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), 'open a packet socket')
    try {
      checked(libc.setsockopt(this.fd, SOL_SOCKET, SO_ATTACH_FILTER, filter(), 16), 'filter a packet socket')
      const address = linkAddress(index)
      checked(libc.bind(this.fd, address, address.length), `bind a packet socket to "${name}"`)
      this.#port = occupyClientPort(name)
    } catch (error) {
      closeSync(this.fd)
      throw error
    }
  }

  /**
   * @param server Absent: everybody.
   * @returns Whether it went out: it does not on a link that is down or has gone.
   * @throws KernelError for another reason
   */
  send(message: DhcpMessage, server?: ServerAddress): boolean {
    const frame = encodeFrame({
      destinationMac: server === undefined ? BROADCAST_MAC : Buffer.from(server.mac, 'hex'),
      sourceMac: this.mac,
      source: message.ciaddr,
      destination: server?.address ?? BROADCAST_ADDRESS,
      sourcePort: CLIENT_PORT,
      destinationPort: SERVER_PORT,
      payload: encodeMessage(message),
    })
    try {
      checked(Number(libc.send(this.fd, frame, frame.length, 0)), 'send a DHCP message')
      return true
    } catch (error) {
      if (isErrno(error, 'ENETDOWN', 'ENXIO', 'ENODEV', 'ENOBUFS', 'EAGAIN')) return false
      throw error
    }
  }

  /** @returns Answers that have come in, of so many frames that a flood does not keep others waiting. @throws KernelError */
  receive(): readonly Answer[] {
    const answers: Answer[] = []
    for (let i = 0; i < MOST_FRAMES; i++) {
      const count = Number(libc.recv(this.fd, buffer, buffer.length, 0))
      if (count < 0) {
        const code = errno()
        if (code === EAGAIN || code === EINTR || code === ENETDOWN) break
        throw kernelError('receive a DHCP message', code)
      }
      const answer = decode(Buffer.from(buffer.subarray(0, count)))
      if (answer !== undefined) answers.push(answer)
    }
    return answers
  }

  [Symbol.dispose](): void {
    closeSync(this.fd)
    if (this.#port !== undefined) closeSync(this.#port)
  }
}

/** Whatever else is on the port, or is a forgery, is not for the client. */
function decode(frame: Buffer): Answer | undefined {
  try {
    const { sourceMac, sourcePort, payload } = decodeFrame(frame)
    return sourcePort === SERVER_PORT ? { message: decodeMessage(Buffer.from(payload)), from: Buffer.from(sourceMac).toString('hex') } : undefined
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}

function linkAddress(ifindex: number): Uint8Array {
  const address = new DataView(new ArrayBuffer(ADDRESS_SIZE))
  address.setUint16(0, AF_PACKET, true)
  address.setUint16(2, ETH_P_IP)
  address.setInt32(4, ifindex, true)
  return new Uint8Array(address.buffer)
}

/** struct sock_fprog: the number of lines, and at byte 8 the address of struct sock_filter[]. */
function filter(): Uint8Array {
  filterProgram ??= fill(allocate(8 * FILTER.length))
  const program = new DataView(new ArrayBuffer(16))
  program.setUint16(0, FILTER.length, true)
  program.setBigUint64(8, filterProgram.address, true)
  return new Uint8Array(program.buffer)
}

function fill(memory: FixedMemory): FixedMemory {
  const lines = new DataView(memory.bytes.buffer, memory.bytes.byteOffset, memory.bytes.byteLength)
  for (const [i, [code, jt, jf, k]] of FILTER.entries()) {
    lines.setUint16(8 * i, code, true)
    lines.setUint8(8 * i + 2, jt)
    lines.setUint8(8 * i + 3, jf)
    lines.setUint32(8 * i + 4, k, true)
  }
  return memory
}
