/** Interface addresses: struct ifaddrmsg. @see include/uapi/linux/if_addr.h (Linux 6.18) */
import { bytes, decodeAttributes, encodeAttributes, type Infer } from './attribute.ts'
import type { ByteWriter } from './byte-writer.ts'

export const RTM_NEWADDR = 20
export const RTM_DELADDR = 21
export const RTM_GETADDR = 22

export const AF_INET = 2
export const AF_INET6 = 10
/** The address needs no duplicate address detection. */
export const IFA_F_NODAD = 0x02
export const RT_SCOPE_UNIVERSE = 0
export const RT_SCOPE_LINK = 253

export interface AddressHeader {
  readonly family: number
  readonly prefixLength: number
  /** IFA_F_* that fit into 8 bits. */
  readonly flags: number
  readonly scope: number
  readonly index: number
}

export const address = { address: bytes(1), local: bytes(2), broadcast: bytes(4) }

export type Address = Infer<typeof address>

export function encodeAddress(writer: ByteWriter, header: AddressHeader, value: Address): void {
  writer.u8(header.family).u8(header.prefixLength).u8(header.flags).u8(header.scope).i32(header.index)
  encodeAttributes(writer, address, value)
}

export function decodeAddress(body: Buffer): AddressHeader & Address {
  if (body.length < 8) throw new RangeError(`Address message is short: ${body.length} of 8 bytes`)
  const header = {
    family: body.readUInt8(0),
    prefixLength: body.readUInt8(1),
    flags: body.readUInt8(2),
    scope: body.readUInt8(3),
    index: body.readInt32LE(4),
  }
  return { ...decodeAttributes(body.subarray(8), address), ...header }
}
