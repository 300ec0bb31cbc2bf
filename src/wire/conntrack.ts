/** Connection tracking entries over nfnetlink. @see include/uapi/linux/netfilter/nfnetlink_conntrack.h (Linux 6.18) */
import { be16, bytes, decodeAttributes, encodeAttributes, type Infer, nested, u8, u32 } from './attribute.ts'
import type { ByteWriter } from './byte-writer.ts'

const NFNL_SUBSYS_CTNETLINK = 1
export const IPCTNL_MSG_CT_GET = (NFNL_SUBSYS_CTNETLINK << 8) | 1
export const IPCTNL_MSG_CT_DELETE = (NFNL_SUBSYS_CTNETLINK << 8) | 2

/** What of a tuple a filter compares. @see net/netfilter/nf_conntrack_netlink.c, CTA_FILTER_FLAG */
export const CTA_FILTER_F_CTA_IP_SRC = 1 << 0
export const CTA_FILTER_F_CTA_IP_DST = 1 << 1
export const CTA_FILTER_F_CTA_PROTO_NUM = 1 << 3
export const CTA_FILTER_F_CTA_PROTO_DST_PORT = 1 << 5

const ip = { v4Source: bytes(1), v4Destination: bytes(2), v6Source: bytes(3), v6Destination: bytes(4) }
const protocol = { number: u8(1), sourcePort: be16(2), destinationPort: be16(3) }
const tuple = { ip: nested(1, ip), protocol: nested(2, protocol), zone: be16(3) }

const filter = { originalFlags: u32(1), replyFlags: u32(2) }

export const conntrack = { original: nested(1, tuple), reply: nested(2, tuple), id: bytes(12), zone: be16(18), filter: nested(25, filter) }

export type Conntrack = Infer<typeof conntrack>
export type Tuple = Infer<typeof tuple>

/** struct nfgenmsg { u8 family; u8 version; be16 resource }, then the attributes. @param family AF_INET, AF_INET6, or AF_UNSPEC for both */
export function encodeConntrack(writer: ByteWriter, family: number, value: Conntrack): void {
  writer.u8(family).u8(0).u16(0)
  encodeAttributes(writer, conntrack, value)
}

export function decodeConntrack(body: Buffer): Conntrack & { readonly family: number } {
  if (body.length < 4) throw new RangeError(`Conntrack message is short: ${body.length} of 4 bytes`)
  return { ...decodeAttributes(body.subarray(4), conntrack), family: body.readUInt8(0) }
}
