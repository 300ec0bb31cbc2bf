/** Netlink's message header, acks and extended acks. @see include/uapi/linux/netlink.h (Linux 6.18) */
import { cstring, decodeAttributes, type Infer, u32 } from './attribute.ts'
import { ByteWriter } from './byte-writer.ts'

export const NLMSG_HDRLEN = 16
export const NLMSG_NOOP = 1
export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3

export const NLM_F_REQUEST = 0x1
export const NLM_F_ACK = 0x4
export const NLM_F_DUMP_INTR = 0x10
export const NLM_F_DUMP = 0x300
export const NLM_F_REPLACE = 0x100
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
export const NLM_F_APPEND = 0x800
const NLM_F_CAPPED = 0x100
const NLM_F_ACK_TLVS = 0x200

export interface Message {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  readonly portId: number
  /** What follows the header; a view into the receive buffer. */
  readonly body: Buffer
}

/** Extended ack attributes. @see enum nlmsgerr_attrs */
const extendedAck = { message: cstring(1), offset: u32(2) }

export interface Ack {
  /** 0, or a positive errno. */
  readonly errno: number
  readonly text: string | undefined
}

/** @returns The message as bytes: struct nlmsghdr, then what `body` writes. */
export function encodeMessage(
  header: { readonly type: number; readonly flags: number; readonly sequence: number },
  body: (writer: ByteWriter) => void,
): Buffer {
  const writer = new ByteWriter()
  writer.u32(0).u16(header.type).u16(header.flags).u32(header.sequence).u32(0)
  body(writer)
  writer.setU32(0, writer.length)
  return writer.align().view()
}

/** Walks the messages of one datagram. @throws RangeError when one is shorter than it says */
export function* decodeMessages(data: Buffer): Generator<Message> {
  for (let offset = 0; offset < data.length; ) {
    if (data.length - offset < NLMSG_HDRLEN) throw new RangeError(`Netlink header is short: ${data.length - offset} of ${NLMSG_HDRLEN} bytes`)
    const length = data.readUInt32LE(offset)
    if (length < NLMSG_HDRLEN) throw new RangeError(`Netlink length ${length} is smaller than its header`)
    if (length > data.length - offset) throw new RangeError(`Netlink message is short: ${data.length - offset} of ${length} bytes`)
    yield {
      type: data.readUInt16LE(offset + 4),
      flags: data.readUInt16LE(offset + 6),
      sequence: data.readUInt32LE(offset + 8),
      portId: data.readUInt32LE(offset + 12),
      body: data.subarray(offset + NLMSG_HDRLEN, offset + length),
    }
    offset += (length + 3) & ~3
  }
}

/** Reads NLMSG_ERROR, and NLMSG_DONE with an errno: struct nlmsgerr, the request (or its header), extended ack. */
export function decodeAck(message: Message): Ack {
  if (message.body.length < 4) throw new RangeError(`Netlink ack is short: ${message.body.length} of 4 bytes`)
  const errno = Math.abs(message.body.readInt32LE())
  if ((message.flags & NLM_F_ACK_TLVS) === 0) return { errno, text: undefined }
  const attributes: Infer<typeof extendedAck> = decodeAttributes(message.body.subarray(attributesOffset(message)), extendedAck)
  return { errno, text: attributes.message }
}

/** NLMSG_DONE carries only the errno; an error carries the request's header and, unless capped or successful, its body. */
function attributesOffset(message: Message): number {
  if (message.type === NLMSG_DONE) return 4
  if (message.body.length < 4 + NLMSG_HDRLEN) throw new RangeError('Netlink ack does not repeat the request header')
  const capped = (message.flags & NLM_F_CAPPED) !== 0
  return 4 + (capped ? NLMSG_HDRLEN : (message.body.readUInt32LE(4) + 3) & ~3)
}
