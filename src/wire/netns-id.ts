/** Numbers by which one network namespace knows others. @see include/uapi/linux/net_namespace.h; net/core/net_namespace.c, rtnl_net_getid */
import { decodeAttributes, encodeAttributes, type Infer, i32, u32 } from './attribute.ts'
import type { ByteWriter } from './byte-writer.ts'

/** @see include/uapi/linux/rtnetlink.h */
export const RTM_GETNSID = 90
export const NETNSA_NSID_NOT_ASSIGNED = -1

/** struct rtgenmsg, with its padding. */
const HEADER_BYTES = 4

export const netnsId = {
  id: i32(1),
  fd: u32(3),
}

export type NetnsId = Infer<typeof netnsId>

export function encodeNetnsId(writer: ByteWriter, value: NetnsId): void {
  writer.u32(0)
  encodeAttributes(writer, netnsId, value)
}

export function decodeNetnsId(body: Buffer): NetnsId {
  if (body.length < HEADER_BYTES) throw new RangeError(`Namespace message is short: ${body.length} of ${HEADER_BYTES} bytes`)
  return decodeAttributes(body.subarray(HEADER_BYTES), netnsId)
}
