/** What the source guard's rules look at: bytes of a frame, and what its port may send. Pure. */
import { type Expression, expressions } from '../../wire/nftables.ts'
import { compare, make, meta, quarter } from '../nftables/expression.ts'

// include/uapi/linux/netfilter/nf_tables.h
const NFT_REG_1 = 1
const NFT_META_IIFNAME = 6
const NFT_META_L4PROTO = 16
const NFT_LOOKUP_F_INV = 1
const NFT_RANGE_NEQ = 1
const NFT_CMP_NEQ = 1
const IPPROTO_FRAGMENT = 44
const IPPROTO_ICMPV6 = 58

/** Headers of a frame. With a VLAN tag, the kernel counts the tag to the link's. @see net/netfilter/nft_payload.c */
const BASE = { link: 0, network: 1, transport: 2 } as const

/** Some bytes of a frame. A frame that does not have them fits no rule that looks at them. */
export interface Bytes {
  readonly base: keyof typeof BASE
  readonly offset: number
  readonly length: number
}

/** Goes on when the bytes have this value. */
export function bytesAre(bytes: Bytes, value: readonly number[]): readonly Expression[] {
  return [load(bytes, NFT_REG_1), compare('is', Uint8Array.from(value))]
}

/** Goes on when the byte is outside of the range. */
export function byteIsOutside(bytes: Bytes, from: number, to: number): readonly Expression[] {
  const value = (byte: number) => ({ value: Uint8Array.of(byte) })
  return [load(bytes, NFT_REG_1), make('range', expressions.range, { sreg: NFT_REG_1, op: NFT_RANGE_NEQ, from: value(from), to: value(to) })]
}

/** Goes on when the port that the frame came by is in the set. */
export function portIsIn(set: string): readonly Expression[] {
  return [meta(NFT_META_IIFNAME, NFT_REG_1), lookup(set)]
}

/** Goes on when the port and the bytes together are in the set, or when they are not. */
export function portMaySend(bytes: Bytes, set: string, is: 'in' | 'not in' = 'in'): readonly Expression[] {
  return [meta(NFT_META_IIFNAME, NFT_REG_1), load(bytes, quarter(4)), lookup(set, is)]
}

/** The header behind the extension headers; of a frame whose headers cannot be followed to their end, neither is true. */
export function isIcmp6(is: 'is' | 'is not' = 'is'): readonly Expression[] {
  return [meta(NFT_META_L4PROTO, NFT_REG_1), compare(is, Uint8Array.of(IPPROTO_ICMPV6))]
}

/** A fragment of an IPv6 packet other than its first: offset, in units of 8 bytes, in the upper 13 bits. */
export function isLaterFragment(): readonly Expression[] {
  const word = (...value: readonly number[]) => ({ value: Uint8Array.from(value) })
  return [
    make('exthdr', expressions.exthdr, { dreg: NFT_REG_1, type: IPPROTO_FRAGMENT, offset: 2, length: 2 }),
    make('bitwise', expressions.bitwise, { sreg: NFT_REG_1, dreg: NFT_REG_1, length: 2, mask: word(0xff, 0xf8), xor: word(0, 0) }),
    make('cmp', expressions.cmp, { sreg: NFT_REG_1, op: NFT_CMP_NEQ, data: word(0, 0) }),
  ]
}

function lookup(set: string, is: 'in' | 'not in' = 'in'): Expression {
  return make('lookup', expressions.lookup, { set, sreg: NFT_REG_1, ...(is === 'in' ? {} : { flags: NFT_LOOKUP_F_INV }) })
}

function load({ base, offset, length }: Bytes, dreg: number): Expression {
  return make('payload', expressions.payload, { dreg, base: BASE[base], offset, length })
}
