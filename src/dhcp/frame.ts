/** Ethernet frames with a UDP datagram of IPv4, as packet sockets send and receive them. @see RFC 791, 768, 1071 */
import { ipv4Bytes, ipv4Text } from './option-codec.ts'

export const SERVER_PORT = 67
export const CLIENT_PORT = 68

export const BROADCAST_MAC: Uint8Array = Buffer.alloc(6, 0xff)
export const BROADCAST_ADDRESS = '255.255.255.255'

const ETHERTYPE_IP = 0x0800
const ETHERNET_SIZE = 14
const IP_SIZE = 20
const UDP_SIZE = 8
const UDP = 17
const TTL = 64
const FRAGMENT = 0x3fff

export interface UdpFrame {
  readonly destinationMac: Uint8Array
  readonly sourceMac: Uint8Array
  readonly source: string
  readonly destination: string
  readonly sourcePort: number
  readonly destinationPort: number
  readonly payload: Uint8Array
}

export function encodeFrame({ destinationMac, sourceMac, source, destination, sourcePort, destinationPort, payload }: UdpFrame): Buffer {
  const ethernet = Buffer.concat([destinationMac, sourceMac, Buffer.of(ETHERTYPE_IP >> 8, ETHERTYPE_IP & 255)])
  const ip = Buffer.alloc(IP_SIZE)
  ip.set([0x45, 0])
  ip.writeUInt16BE(IP_SIZE + UDP_SIZE + payload.length, 2)
  ip.set([TTL, UDP], 8)
  ip.set(ipv4Bytes(source), 12)
  ip.set(ipv4Bytes(destination), 16)
  ip.writeUInt16BE(~sum(ip) & 0xffff, 10)
  const udp = Buffer.concat([Buffer.alloc(UDP_SIZE), payload])
  udp.writeUInt16BE(sourcePort, 0)
  udp.writeUInt16BE(destinationPort, 2)
  udp.writeUInt16BE(udp.length, 4)
  // 0 would say that there is no checksum.
  udp.writeUInt16BE(~sum(pseudoHeader(ip, udp.length), udp) & 0xffff || 0xffff, 6)
  return Buffer.concat([ethernet, ip, udp])
}

/**
 * @returns The datagram of a frame, without what Ethernet padded it with.
 * @throws RangeError for anything but a whole UDP datagram of IPv4 whose checksums are right, or are left for a network card to make
 */
export function decodeFrame(frame: Buffer): UdpFrame {
  const packet = frame.subarray(ETHERNET_SIZE)
  if (packet.length < IP_SIZE || frame.readUInt16BE(12) !== ETHERTYPE_IP) throw new RangeError('Frame is short, or no IPv4')
  const headerSize = 4 * ((packet[0] as number) & 15)
  const length = packet.readUInt16BE(2)
  if ((packet[0] as number) >> 4 !== 4 || headerSize < IP_SIZE) throw new RangeError('IP header is none of IPv4')
  if (length > packet.length || length < headerSize + UDP_SIZE) throw new RangeError(`IP packet says ${length} bytes, and is of ${packet.length}`)
  const header = packet.subarray(0, headerSize)
  if (sum(header) !== 0xffff) throw new RangeError('IP header has a wrong checksum')
  if (header[9] !== UDP || (header.readUInt16BE(6) & FRAGMENT) !== 0) throw new RangeError('IP packet is no whole UDP datagram')
  const udp = packet.subarray(headerSize, length)
  const size = udp.readUInt16BE(4)
  if (size < UDP_SIZE || size > udp.length) throw new RangeError(`UDP datagram says ${size} bytes, and is of ${udp.length}`)
  const datagram = udp.subarray(0, size)
  checkUdp(header, datagram)
  return {
    destinationMac: frame.subarray(0, 6),
    sourceMac: frame.subarray(6, 12),
    source: ipv4Text(header.subarray(12, 16)),
    destination: ipv4Text(header.subarray(16, 20)),
    sourcePort: datagram.readUInt16BE(0),
    destinationPort: datagram.readUInt16BE(2),
    payload: datagram.subarray(UDP_SIZE),
  }
}

/**
 * A server on this very host sends over links that leave the checksum to a network card, which never sees the frame: then the
 * field holds the sum of the pseudo-header alone. @see kernel include/linux/skbuff.h, CHECKSUM_PARTIAL
 */
function checkUdp(header: Buffer, datagram: Buffer): void {
  const checksum = datagram.readUInt16BE(6)
  const pseudo = pseudoHeader(header, datagram.length)
  if (checksum === 0 || sum(pseudo, datagram) === 0xffff || checksum === sum(pseudo)) return
  throw new RangeError('UDP datagram has a wrong checksum')
}

function pseudoHeader(ip: Buffer, udpLength: number): Buffer {
  return Buffer.concat([ip.subarray(12, 20), Buffer.of(0, UDP, udpLength >> 8, udpLength & 255)])
}

/** @returns The ones' complement sum of the 16-bit words, not inverted. @see RFC 1071 */
function sum(...parts: readonly Uint8Array[]): number {
  let total = 0
  for (const part of parts) for (let i = 0; i < part.length; i += 2) total += ((part[i] as number) << 8) + (part[i + 1] ?? 0)
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16)
  return total
}
