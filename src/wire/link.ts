/**
 * Links: struct ifinfomsg and the attributes that tsnet reads or writes.
 * @see include/uapi/linux/if_link.h, include/uapi/linux/veth.h (Linux 6.18)
 */
import {
  type Attribute,
  bytes,
  type Codec,
  cstring,
  decodeAttributes,
  eachAttribute,
  encodeAttribute,
  encodeAttributes,
  type Infer,
  i32,
  nested,
  type RawAttribute,
  text,
  u8,
  u16,
  u32,
} from './attribute.ts'
import type { ByteWriter } from './byte-writer.ts'

export const RTM_NEWLINK = 16
export const RTM_DELLINK = 17
export const RTM_GETLINK = 18

export const IFF_UP = 0x1
export const IFF_PROMISC = 0x100
export const IFF_ALLMULTI = 0x200
export const AF_UNSPEC = 0
/** @see include/uapi/linux/rtnetlink.h */
export const RTEXT_FILTER_SKIP_STATS = 1 << 3
/** Port states of a bridge. @see include/uapi/linux/if_bridge.h */
export const BR_STATE_DISABLED = 0
export const BR_STATE_FORWARDING = 3

export interface LinkHeader {
  /** 0 asks for the link named by IFLA_IFNAME. */
  readonly index: number
  readonly flags: number
  /** Which bits of `flags` to change. */
  readonly change: number
}

/** `options` is struct br_boolopt_multi: values, then which of them count, 32 bits each. */
const bridge = { forwardDelay: u32(1), stpState: u32(5), vlanFiltering: u8(7), nfCallIptables: u8(36), nfCallIp6tables: u8(37), options: bytes(46) }

const bridgePort = { state: u8(1), hairpin: u8(4), isolated: u8(33) }

/** The peer of a veth is a link message of its own, header included. */
const veth = { peer: peer(1) }

/** @see include/uapi/linux/if_link.h, MACVLAN_MODE_* */
const macvlan = { mode: u32(1), broadcastQueueLength: u32(7) }
/** @see include/uapi/linux/if_link.h, IPVLAN_MODE_* */
const ipvlan = { mode: u16(1), flags: u16(2) }
const vlan = { id: u16(1) }
const vrf = { table: u32(1) }

export type BridgeOptions = Infer<typeof bridge>
export type BridgePort = Infer<typeof bridgePort>

/** IFLA_LINKINFO: what kind of link it is, and what kind of port of its master. */
export interface LinkInfo {
  readonly kind?: string
  readonly bridge?: BridgeOptions
  readonly veth?: { readonly peer?: PeerLink }
  readonly macvlan?: Infer<typeof macvlan>
  readonly ipvlan?: Infer<typeof ipvlan>
  readonly vlan?: Infer<typeof vlan>
  readonly vrf?: Infer<typeof vrf>
  readonly slaveKind?: string
  readonly bridgePort?: BridgePort
}

export const link = {
  address: bytes(1),
  ifname: cstring(3),
  mtu: u32(4),
  /** The other end of a veth, or the link below. */
  linkIndex: i32(5),
  master: u32(10),
  /** In what a bridge tells of its ports, of family AF_BRIDGE. */
  protinfo: nested(12, bridgePort),
  txQueueLength: u32(13),
  operstate: u8(16),
  linkinfo: linkInfo(18),
  netNsFd: u32(28),
  ifalias: text(20),
  group: u32(27),
  /** What an answer shall hold; the statistics are a third of it. */
  extMask: u32(29),
  linkNetnsId: i32(37),
}

export interface Link extends Infer<typeof link> {}

export interface PeerLink extends Link {
  readonly flags?: number
}

export function encodeLink(writer: ByteWriter, header: LinkHeader, value: Link): void {
  writer.u8(AF_UNSPEC).u8(0).u16(0).i32(header.index).u32(header.flags).u32(header.change)
  encodeAttributes(writer, link, value)
}

export function decodeLink(body: Buffer): LinkHeader & Link {
  if (body.length < 16) throw new RangeError(`Link message is short: ${body.length} of 16 bytes`)
  const header = { index: body.readInt32LE(4), flags: body.readUInt32LE(8), change: body.readUInt32LE(12) }
  return Object.assign(decodeAttributes(body.subarray(16), link), header)
}

function peer(type: number): Attribute<PeerLink> {
  return {
    type,
    nested: true,
    encode: (writer, { flags = 0, ...value }) => encodeLink(writer, { index: 0, flags, change: flags }, value),
    decode: (payload) => {
      const { index: _, change: __, ...value } = decodeLink(payload)
      return value
    },
  }
}

/** The layout of IFLA_INFO_DATA depends on IFLA_INFO_KIND, which comes before it. */
function linkInfo(type: number): Attribute<LinkInfo> {
  const data = {
    bridge: nested(2, bridge),
    veth: nested(2, veth),
    macvlan: nested(2, macvlan),
    ipvlan: nested(2, ipvlan),
    vlan: nested(2, vlan),
    vrf: nested(2, vrf),
  }
  const kind = text(1)
  const slaveKind = text(4)
  const slaveData = nested(5, bridgePort)
  const codec: Codec<LinkInfo> = {
    encode: (writer, value) => {
      if (value.kind !== undefined) encodeAttribute(writer, kind, value.kind)
      for (const [name, attribute] of Object.entries(data)) {
        const options = value[name as keyof typeof data]
        if (options !== undefined) encodeAttribute(writer, attribute as Attribute<object>, options)
      }
      if (value.slaveKind !== undefined) encodeAttribute(writer, slaveKind, value.slaveKind)
      if (value.bridgePort !== undefined) encodeAttribute(writer, slaveData, value.bridgePort)
    },
    decode: (payload) => {
      let info: LinkInfo = {}
      for (const attribute of eachAttribute(payload)) info = { ...info, ...decodeOne(info, attribute) }
      return info
    },
  }
  const decodeOne = (info: LinkInfo, { type: which, payload }: RawAttribute): LinkInfo => {
    if (which === kind.type) return { kind: kind.decode(payload) }
    if (which === slaveKind.type) return { slaveKind: slaveKind.decode(payload) }
    if (which === 2 && isKnown(info.kind)) return { [info.kind]: data[info.kind].decode(payload) }
    if (which === slaveData.type && info.slaveKind === 'bridge') return { bridgePort: slaveData.decode(payload) }
    return {}
  }
  const isKnown = (name: string | undefined): name is keyof typeof data => name !== undefined && Object.hasOwn(data, name)
  return { type, nested: true, ...codec }
}
