/** Frames byte by byte, honest and forged, and a packet socket that sends them. */
import { join } from 'node:path'
import { addressToBytes, parseAddress } from '../../src/wire/ip-address.ts'
import type { Place } from './machine.ts'

export const ETHERTYPE = { ip: 0x0800, arp: 0x0806, rarp: 0x8035, vlan: 0x8100, ip6: 0x86dd } as const
export const BROADCAST = 'ff:ff:ff:ff:ff:ff'
const NEXT = { hopByHop: 0, tcp: 6, udp: 17, fragment: 44, icmp6: 58 } as const

/** Sends frames out of the place's interface, past its own IP stack. */
export function sendFrames(place: Place, ifname: string, frames: readonly Uint8Array[]): void {
  const script = join(process.cwd(), 'test/netns/raw-frames.mjs')
  place.exec([process.execPath, script, ifname, ...frames.map((frame) => Buffer.from(frame).toString('hex'))])
}

export interface Ethernet {
  readonly source: string
  readonly destination?: string
  /** An Ethernet type, or below 0x600 a length. */
  readonly type: number
}

export function ethernet({ source, destination = BROADCAST, type }: Ethernet, payload: Uint8Array): Uint8Array {
  return Buffer.concat([mac(destination), mac(source), be16(type), payload])
}

export interface Arp {
  /** 1 request, 2 reply. */
  readonly operation?: number
  readonly senderMac: string
  readonly sender: string
  readonly target: string
}

export function arp({ operation = 1, senderMac, sender, target }: Arp): Uint8Array {
  return Buffer.concat([be16(1), be16(ETHERTYPE.ip), Buffer.of(6, 4), be16(operation), mac(senderMac), ip(sender), Buffer.alloc(6), ip(target)])
}

export interface Packet {
  readonly source: string
  readonly destination: string
}

/** A UDP packet of either family; its port tells it from others. */
export function udp({ source, destination }: Packet, port: number): Uint8Array {
  const datagram = Buffer.concat([be16(port), be16(port), be16(12), be16(0), Buffer.from('spam')])
  if (source.includes(':')) return ip6({ source, destination }, NEXT.udp, datagram)
  const header = Buffer.concat([
    Buffer.of(0x45, 0),
    be16(20 + datagram.length),
    Buffer.of(0, 0, 0, 0, 64, NEXT.udp, 0, 0),
    ip(source),
    ip(destination),
  ])
  header.writeUInt16BE(checksum(header), 10)
  return Buffer.concat([header, datagram])
}

const RST = 0x04

/** A TCP packet that resets a connection, of IPv4: where there is no such connection it belongs to none. */
export function tcpReset({ source, destination }: Packet, port: number): Uint8Array {
  const segment = Buffer.concat([be16(port), be16(port), be32(1), be32(0), Buffer.of(0x50, RST), be16(0), be16(0), be16(0)])
  segment.writeUInt16BE(checksum(Buffer.concat([ip(source), ip(destination), Buffer.of(0, NEXT.tcp), be16(segment.length), segment])), 16)
  const header = Buffer.concat([
    Buffer.of(0x45, 0),
    be16(20 + segment.length),
    Buffer.of(0, 0, 0, 0, 64, NEXT.tcp, 0, 0),
    ip(source),
    ip(destination),
  ])
  header.writeUInt16BE(checksum(header), 10)
  return Buffer.concat([header, segment])
}

export interface Message extends Packet {
  readonly type: number
  /** Behind type, code and checksum. */
  readonly body: Uint8Array
}

/** @param before Puts something between IP header and message. */
export function icmp6({ source, destination, type, body }: Message, before: 'nothing' | 'hop-by-hop' | 'only fragment' = 'nothing'): Uint8Array {
  const message = Buffer.concat([Buffer.of(type, 0, 0, 0), body])
  const pseudo = Buffer.concat([ip(source), ip(destination), be32(message.length), be32(NEXT.icmp6)])
  message.writeUInt16BE(checksum(Buffer.concat([pseudo, message])), 2)
  if (before === 'nothing') return ip6({ source, destination }, NEXT.icmp6, message)
  // Router alert and padding.
  if (before === 'hop-by-hop')
    return ip6({ source, destination }, NEXT.hopByHop, Buffer.concat([Buffer.of(NEXT.icmp6, 0, 5, 2, 0, 0, 1, 0), message]))
  const fragment = Buffer.concat([Buffer.of(NEXT.icmp6, 0), be16(0), be32(0x5eed)])
  return ip6({ source, destination }, NEXT.fragment, Buffer.concat([fragment, message]))
}

/** Neighbour solicitation (135) and advertisement (136): what is asked for or told, and its option. */
export function neighbour(target: string, option?: { readonly kind: number; readonly mac: string }): Uint8Array {
  // Solicited, override: nothing in a solicitation.
  const flags = be32(option?.kind === 2 ? 0x20000000 : 0)
  return Buffer.concat([flags, ip(target), ...(option === undefined ? [] : [Buffer.of(option.kind, 1), mac(option.mac)])])
}

function ip6({ source, destination }: Packet, next: number, payload: Uint8Array): Uint8Array {
  return Buffer.concat([be32(0x60000000), be16(payload.length), Buffer.of(next, 255), ip(source), ip(destination), payload])
}

function ip(text: string): Uint8Array {
  const address = parseAddress(text)
  if (address === undefined) throw new TypeError(`${text} is no address`)
  return addressToBytes(address)
}

function mac(text: string): Uint8Array {
  return Buffer.from(text.replaceAll(':', ''), 'hex')
}

function be16(value: number): Buffer {
  return Buffer.of(value >> 8, value & 255)
}

function be32(value: number): Buffer {
  return Buffer.concat([be16(value >>> 16), be16(value & 0xffff)])
}

/** @see RFC 1071 */
function checksum(bytes: Buffer): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i] ?? 0) * 256 + (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
