/** DHCPv4 messages: bytes ⇄ values. @see RFC 2131, 2 "Protocol Summary", figure 1 */

import { decodeOptions, encodeOptions, type Options } from './option.ts'
import { ipv4Bytes, ipv4Text } from './option-codec.ts'

export const BOOTREQUEST = 1
export const BOOTREPLY = 2
/** Option 53. @see RFC 2132, 9.6 */
export const MESSAGE = { discover: 1, offer: 2, request: 3, decline: 4, ack: 5, nak: 6, release: 7, inform: 8 } as const

const ETHERNET = 1
const ETHERNET_LENGTH = 6
const BROADCAST_FLAG = 0x8000
const COOKIE = Buffer.of(99, 130, 83, 99)
const NO_ADDRESS = '0.0.0.0'
/** Where the fields begin. */
const AT = { flags: 10, ciaddr: 12, yiaddr: 16, siaddr: 20, giaddr: 24, chaddr: 28, sname: 44, file: 108, cookie: 236, options: 240 } as const
/** Relays and servers drop what is shorter than BOOTP was. @see RFC 1542, 2.1 */
const SHORTEST = 300

export interface DhcpMessage {
  /** BOOTREQUEST or BOOTREPLY. */
  readonly op: number
  /** What a reply is recognised by. */
  readonly xid: number
  /** Since the client began, at most 65535. */
  readonly seconds: number
  /** Whether the reply is to be a broadcast. */
  readonly broadcast: boolean
  /** The client's own address, which it can answer at; 0.0.0.0 for none, as with the others. */
  readonly ciaddr: string
  /** The address that the server gives. */
  readonly yiaddr: string
  /** The relay's. */
  readonly giaddr: string
  /** The client's hardware address: 6 bytes. */
  readonly chaddr: Uint8Array
  readonly options: Options
}

/** @returns A message to send, with what it says itself; everything else is 0. */
export function clientMessage(message: Pick<DhcpMessage, 'xid' | 'chaddr' | 'options'> & Partial<DhcpMessage>): DhcpMessage {
  return { op: BOOTREQUEST, seconds: 0, broadcast: false, ciaddr: NO_ADDRESS, yiaddr: NO_ADDRESS, giaddr: NO_ADDRESS, ...message }
}

/** @throws RangeError for an address that is none */
export function encodeMessage(message: DhcpMessage): Buffer {
  const head = Buffer.alloc(AT.options)
  head.set([message.op, ETHERNET, ETHERNET_LENGTH, 0])
  head.writeUInt32BE(message.xid, 4)
  head.writeUInt16BE(message.seconds, 8)
  head.writeUInt16BE(message.broadcast ? BROADCAST_FLAG : 0, AT.flags)
  head.set(ipv4Bytes(message.ciaddr), AT.ciaddr)
  head.set(ipv4Bytes(message.yiaddr), AT.yiaddr)
  head.set(ipv4Bytes(message.giaddr), AT.giaddr)
  head.set(message.chaddr, AT.chaddr)
  head.set(COOKIE, AT.cookie)
  const whole = Buffer.concat([head, encodeOptions(message.options)])
  return whole.length >= SHORTEST ? whole : Buffer.concat([whole, Buffer.alloc(SHORTEST - whole.length)])
}

/** @throws RangeError for what is no DHCP message for an Ethernet interface, or cut off */
export function decodeMessage(data: Buffer): DhcpMessage {
  if (data.length < AT.options) throw new RangeError(`DHCP message is short: ${data.length} of ${AT.options} bytes`)
  if (!COOKIE.equals(data.subarray(AT.cookie, AT.options))) throw new RangeError('DHCP message lacks the magic cookie: it is of BOOTP')
  if (data[1] !== ETHERNET || data[2] !== ETHERNET_LENGTH) throw new RangeError(`DHCP message is for hardware of type ${data[1]}`)
  const own = data.subarray(AT.options)
  const overload = decodeOptions([own]).overload ?? 0
  const areas = [
    own,
    ...((overload & 1) !== 0 ? [data.subarray(AT.file, AT.cookie)] : []),
    ...((overload & 2) !== 0 ? [data.subarray(AT.sname, AT.file)] : []),
  ]
  const address = (at: number) => ipv4Text(data.subarray(at, at + 4))
  return {
    op: data[0] as number,
    xid: data.readUInt32BE(4),
    seconds: data.readUInt16BE(8),
    broadcast: (data.readUInt16BE(AT.flags) & BROADCAST_FLAG) !== 0,
    ciaddr: address(AT.ciaddr),
    yiaddr: address(AT.yiaddr),
    giaddr: address(AT.giaddr),
    chaddr: data.subarray(AT.chaddr, AT.chaddr + ETHERNET_LENGTH),
    options: decodeOptions(areas),
  }
}
