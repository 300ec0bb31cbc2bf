/** Policy rules, which choose the routing table: struct fib_rule_hdr. @see include/uapi/linux/fib_rules.h (Linux 6.18) */
import { bytes, decodeAttributes, encodeAttributes, type Infer, u8, u32 } from './attribute.ts'
import type { ByteWriter } from './byte-writer.ts'

export const RTM_NEWRULE = 32
export const RTM_DELRULE = 33
export const RTM_GETRULE = 34

/** Look the destination up in the table. */
export const FR_ACT_TO_TBL = 1

export interface FibRuleHeader {
  readonly family: number
  /** Bits of the source that are compared. */
  readonly sourceLength: number
  readonly table: number
  readonly action: number
}

export const fibRule = {
  source: bytes(2),
  priority: u32(6),
  table: u32(15),
  /** Who made it: RTPROT_* or a number of one's own. */
  protocol: u8(21),
}

export type FibRule = Infer<typeof fibRule>

/** A table above 255 goes into FRA_TABLE; the header's byte then says RT_TABLE_UNSPEC. */
export function encodeFibRule(writer: ByteWriter, header: FibRuleHeader, value: FibRule): void {
  writer.u8(header.family).u8(0).u8(header.sourceLength).u8(0)
  writer
    .u8(header.table > 255 ? 0 : header.table)
    .u8(0)
    .u8(0)
    .u8(header.action)
    .u32(0)
  encodeAttributes(writer, fibRule, value)
}

export function decodeFibRule(body: Buffer): FibRuleHeader & { readonly attributes: FibRule } {
  if (body.length < 12) throw new RangeError(`Policy rule message is short: ${body.length} of 12 bytes`)
  const attributes = decodeAttributes(body.subarray(12), fibRule)
  return {
    family: body.readUInt8(0),
    sourceLength: body.readUInt8(2),
    table: attributes.table ?? body.readUInt8(4),
    action: body.readUInt8(7),
    attributes,
  }
}
