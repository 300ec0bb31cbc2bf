/**
 * VLANs of a bridge's port: link messages of family AF_BRIDGE.
 * @see include/uapi/linux/if_bridge.h, struct bridge_vlan_info; net/bridge/br_netlink.c, br_afspec (Linux 6.18)
 */
import { type Attribute, decodeAttributes, encodeAttributes, list, u32 } from './attribute.ts'
import type { ByteWriter } from './byte-writer.ts'

/** @see include/uapi/linux/rtnetlink.h */
export const RTM_SETLINK = 19
export const RTEXT_FILTER_BRVLAN = 1 << 1

const AF_BRIDGE = 7
const FLAG = { pvid: 1 << 1, untagged: 1 << 2, rangeBegin: 1 << 3, rangeEnd: 1 << 4 } as const

/** VLANs of a port, from the first to the last. */
export interface PortVlan {
  readonly first: number
  readonly last: number
  /** Frames without a tag that come in belong to it. */
  readonly pvid: boolean
  /** Frames go out without its tag. */
  readonly untagged: boolean
}

interface VlanInfo {
  readonly flags: number
  readonly id: number
}

const message = { afSpec: list(26, vlanInfo(2)), extMask: u32(29) }

/** Of RTM_SETLINK, which adds the VLANs to the port with this index, and of RTM_DELLINK, which removes them. */
export function encodePortVlans(writer: ByteWriter, index: number, vlans: readonly PortVlan[]): void {
  encodeHeader(writer, index)
  encodeAttributes(writer, message, { afSpec: vlans.flatMap(infosOf) })
}

/** Asks for the VLANs of all ports. */
export function encodeVlanDump(writer: ByteWriter): void {
  encodeHeader(writer, 0)
  encodeAttributes(writer, message, { extMask: RTEXT_FILTER_BRVLAN })
}

export function decodePortVlans(body: Buffer): { readonly index: number; readonly vlans: readonly PortVlan[] } {
  if (body.length < 16) throw new RangeError(`Bridge port message is short: ${body.length} of 16 bytes`)
  const infos = decodeAttributes(body.subarray(16), message).afSpec ?? []
  const vlans: PortVlan[] = []
  let begin: number | undefined
  for (const { id, flags } of infos) {
    if ((flags & FLAG.rangeBegin) !== 0) begin = id
    else {
      vlans.push({ first: begin ?? id, last: id, pvid: (flags & FLAG.pvid) !== 0, untagged: (flags & FLAG.untagged) !== 0 })
      begin = undefined
    }
  }
  return { index: body.readInt32LE(4), vlans }
}

function encodeHeader(writer: ByteWriter, index: number): void {
  writer.u8(AF_BRIDGE).u8(0).u16(0).i32(index).u32(0).u32(0)
}

function infosOf({ first, last, pvid, untagged }: PortVlan): readonly VlanInfo[] {
  const flags = (pvid ? FLAG.pvid : 0) | (untagged ? FLAG.untagged : 0)
  if (first === last) return [{ flags, id: first }]
  return [
    { flags: flags | FLAG.rangeBegin, id: first },
    { flags: flags | FLAG.rangeEnd, id: last },
  ]
}

function vlanInfo(type: number): Attribute<VlanInfo> {
  return {
    type,
    encode: (writer, { flags, id }) => void writer.u16(flags).u16(id),
    decode: (payload) => {
      if (payload.length < 4) throw new RangeError(`VLAN of a bridge port is short: ${payload.length} of 4 bytes`)
      return { flags: payload.readUInt16LE(0), id: payload.readUInt16LE(2) }
    },
  }
}
