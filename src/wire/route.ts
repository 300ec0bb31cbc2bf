/** Routes: struct rtmsg. @see include/uapi/linux/rtnetlink.h (Linux 6.18) */
import { bytes, cstring, decodeAttributes, encodeAttributes, type Infer, nested, u32 } from './attribute.ts'
import type { ByteWriter } from './byte-writer.ts'

export const RTM_NEWROUTE = 24
export const RTM_DELROUTE = 25
export const RTM_GETROUTE = 26

export const RT_TABLE_MAIN = 254
export const RTPROT_KERNEL = 2
export const RTPROT_STATIC = 4
export const RTN_UNICAST = 1
export const RTN_LOCAL = 2

export interface RouteHeader {
  readonly family: number
  readonly destinationLength: number
  readonly table: number
  readonly protocol: number
  readonly scope: number
  readonly type: number
}

/** @see include/uapi/linux/rtnetlink.h, RTAX_* */
const metrics = {
  lock: u32(1),
  mtu: u32(2),
  window: u32(3),
  rtt: u32(4),
  rttVariance: u32(5),
  slowStartThreshold: u32(6),
  congestionWindow: u32(7),
  advmss: u32(8),
  reordering: u32(9),
  hopLimit: u32(10),
  initialCongestionWindow: u32(11),
  features: u32(12),
  minimumRto: u32(13),
  initialReceiveWindow: u32(14),
  quickAck: u32(15),
  congestionControl: cstring(16),
  fastOpenNoCookie: u32(17),
}

export const route = {
  destination: bytes(1),
  outputIndex: u32(4),
  gateway: bytes(5),
  priority: u32(6),
  preferredSource: bytes(7),
  metrics: nested(8, metrics),
  /** struct rtnexthop, one after the other. */
  multipath: bytes(9),
  table: u32(15),
}

export type Route = Infer<typeof route>

/** A table above 255 goes into RTA_TABLE; the header's byte then says RT_TABLE_UNSPEC. */
export function encodeRoute(writer: ByteWriter, header: RouteHeader, value: Route): void {
  writer.u8(header.family).u8(header.destinationLength).u8(0).u8(0)
  writer
    .u8(header.table > 255 ? 0 : header.table)
    .u8(header.protocol)
    .u8(header.scope)
    .u8(header.type)
    .u32(0)
  encodeAttributes(writer, route, value)
}

export function decodeRoute(body: Buffer): RouteHeader & { readonly attributes: Route } {
  if (body.length < 12) throw new RangeError(`Route message is short: ${body.length} of 12 bytes`)
  const attributes = decodeAttributes(body.subarray(12), route)
  return {
    family: body.readUInt8(0),
    destinationLength: body.readUInt8(1),
    table: attributes.table ?? body.readUInt8(4),
    protocol: body.readUInt8(5),
    scope: body.readUInt8(6),
    type: body.readUInt8(7),
    attributes,
  }
}
