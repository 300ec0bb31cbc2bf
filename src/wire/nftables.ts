/** nf_tables over nfnetlink. @see include/uapi/linux/netfilter/nf_tables.h, nfnetlink.h (Linux 6.18) */
import { be32, bytes, cstring, decodeAttributes, encodeAttributes, type Infer, list, nested, type Table, u8 } from './attribute.ts'
import type { ByteWriter } from './byte-writer.ts'

const NFNL_SUBSYS_NFTABLES = 10
export const NFNL_MSG_BATCH_BEGIN = 0x10
export const NFNL_MSG_BATCH_END = 0x11
export const NFPROTO_INET = 1
export const NFPROTO_BRIDGE = 7

/** Message types, with the subsystem in the upper byte. */
export const NFT_MSG = {
  NEWTABLE: (NFNL_SUBSYS_NFTABLES << 8) | 0,
  GETTABLE: (NFNL_SUBSYS_NFTABLES << 8) | 1,
  DELTABLE: (NFNL_SUBSYS_NFTABLES << 8) | 2,
  NEWCHAIN: (NFNL_SUBSYS_NFTABLES << 8) | 3,
  GETCHAIN: (NFNL_SUBSYS_NFTABLES << 8) | 4,
  DELCHAIN: (NFNL_SUBSYS_NFTABLES << 8) | 5,
  NEWRULE: (NFNL_SUBSYS_NFTABLES << 8) | 6,
  GETRULE: (NFNL_SUBSYS_NFTABLES << 8) | 7,
  DELRULE: (NFNL_SUBSYS_NFTABLES << 8) | 8,
  NEWSET: (NFNL_SUBSYS_NFTABLES << 8) | 9,
  NEWSETELEM: (NFNL_SUBSYS_NFTABLES << 8) | 12,
  GETSETELEM: (NFNL_SUBSYS_NFTABLES << 8) | 13,
  DELSETELEM: (NFNL_SUBSYS_NFTABLES << 8) | 14,
  GETGEN: (NFNL_SUBSYS_NFTABLES << 8) | 16,
} as const

export const NFT_SET_INTERVAL = 0x4
export const NFT_SET_MAP = 0x8
export const NFT_SET_CONCAT = 0x80

const data = { value: bytes(1), verdict: nested(2, { code: be32(1), chain: cstring(2) }) }

/** An expression of a rule: its name says what the attributes of its data mean, so that these are kept as bytes. */
export const expression = { name: cstring(1), data: { ...bytes(2), nested: true } }

const element = {
  key: nested(1, data),
  keyEnd: nested(10, data),
  data: nested(2, data),
  flags: be32(3),
  userdata: bytes(6),
}

export const nftables = {
  table: { name: cstring(1), flags: be32(2), userdata: bytes(6) },
  chain: {
    table: cstring(1),
    name: cstring(3),
    hook: nested(4, { hooknum: be32(1), priority: be32(2) }),
    policy: be32(5),
    chainType: cstring(7),
  },
  rule: { table: cstring(1), chain: cstring(2), handle: bytes(3), expressions: list(4, nested(1, expression)), userdata: bytes(7) },
  set: {
    table: cstring(1),
    name: cstring(2),
    flags: be32(3),
    keyType: be32(4),
    keyLength: be32(5),
    dataType: be32(6),
    dataLength: be32(7),
    description: nested(9, { concat: list(2, nested(1, { length: be32(1) })) }),
    id: be32(10),
    userdata: bytes(13),
  },
  elements: { table: cstring(1), set: cstring(2), elements: list(3, nested(1, element)) },
  generation: { id: be32(1) },
} as const

/** The data of the expressions that tsnet's rules are made of. */
export const expressions = {
  meta: { dreg: be32(1), key: be32(2) },
  payload: { dreg: be32(1), base: be32(2), offset: be32(3), length: be32(4) },
  cmp: { sreg: be32(1), op: be32(2), data: nested(3, data) },
  bitwise: { sreg: be32(1), dreg: be32(2), length: be32(3), mask: nested(4, data), xor: nested(5, data) },
  lookup: { set: cstring(1), sreg: be32(2), dreg: be32(3), flags: be32(5) },
  ct: { dreg: be32(1), key: be32(2) },
  fib: { dreg: be32(1), result: be32(2), flags: be32(3) },
  nat: { type: be32(1), family: be32(2), addressMin: be32(3), protoMin: be32(5) },
  immediate: { dreg: be32(1), data: nested(2, data) },
  masq: {},
  range: { sreg: be32(1), op: be32(2), from: nested(3, data), to: nested(4, data) },
  exthdr: { dreg: be32(1), type: u8(2), offset: be32(3), length: be32(4) },
} as const

export type Expression = Infer<typeof expression>
export type SetElement = Infer<typeof element>

/** struct nfgenmsg { u8 family; u8 version; be16 resource }, then the attributes. @param family NFPROTO_… */
export function encodeNftables<T extends Table>(writer: ByteWriter, table: T, value: Infer<T>, family = NFPROTO_INET): void {
  encodeGenericHeader(writer, family, 0)
  encodeAttributes(writer, table, value)
}

export function decodeNftables<T extends Table>(body: Buffer, table: T): Infer<T> {
  if (body.length < 4) throw new RangeError(`nf_tables message is short: ${body.length} of 4 bytes`)
  return decodeAttributes(body.subarray(4), table)
}

/** Begin and end of a batch; with a generation the kernel refuses the batch when the rules have changed since. */
export function encodeBatchMark(writer: ByteWriter, generation?: number): void {
  encodeGenericHeader(writer, 0, NFNL_SUBSYS_NFTABLES)
  if (generation !== undefined) encodeAttributes(writer, { generation: be32(1) }, { generation })
}

function encodeGenericHeader(writer: ByteWriter, family: number, resource: number): void {
  writer
    .u8(family)
    .u8(0)
    .u8(resource >> 8)
    .u8(resource & 255)
}
