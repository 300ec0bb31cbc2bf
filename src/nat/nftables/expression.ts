/** The few expressions that tsnet's rules consist of, as the kernel takes them. Pure. */
import { encodeAttributes, type Infer, type Table } from '../../wire/attribute.ts'
import { ByteWriter } from '../../wire/byte-writer.ts'
import { type Expression, expressions } from '../../wire/nftables.ts'

// include/uapi/linux/netfilter/nf_tables.h
const NFT_REG_VERDICT = 0
/** The first 16 byte register; its quarters are {@link quarter}(0) to (3). */
const NFT_REG_1 = 1
const NFT_REG32_00 = 8
const NFT_META_IIFNAME = 6
const NFT_META_OIFNAME = 7
const NFT_META_NFPROTO = 15
const NFT_META_L4PROTO = 16
const NFT_PAYLOAD_NETWORK_HEADER = 1
const NFT_PAYLOAD_TRANSPORT_HEADER = 2
const NFT_CMP_EQ = 0
const NFT_CMP_NEQ = 1
const NFT_CT_STATE = 0
const NFT_CT_STATUS = 2
const NFT_FIB_RESULT_ADDRTYPE = 3
const NFTA_FIB_F_DADDR = 2
const NFT_LOOKUP_F_INV = 1
const NFT_NAT_SNAT = 0
const NFT_NAT_DNAT = 1
const NFT_JUMP = 0xfffffffd
const NFT_RETURN = 0xfffffffb
const NF_DROP = 0
const NF_ACCEPT = 1
const RTN_LOCAL = 2

export const NFPROTO = { 4: 2, 6: 10 } as const
export const IFNAME_LENGTH = 16

/** What a rule looks at, in the order in which it goes into registers. */
export type Field = 'source4' | 'destination4' | 'source6' | 'destination6' | 'l4proto' | 'destinationPort' | 'iifname' | 'oifname'

/** Bytes of each field. */
export const FIELD_LENGTH: Readonly<Record<Field, number>> = {
  source4: 4,
  destination4: 4,
  source6: 16,
  destination6: 16,
  l4proto: 1,
  destinationPort: 2,
  iifname: IFNAME_LENGTH,
  oifname: IFNAME_LENGTH,
}

const LOAD: Readonly<Record<Field, (register: number) => Expression>> = {
  source4: (register) => network(12, 4, register),
  destination4: (register) => network(16, 4, register),
  source6: (register) => network(8, 16, register),
  destination6: (register) => network(24, 16, register),
  l4proto: (register) => meta(NFT_META_L4PROTO, register),
  destinationPort: (register) => make('payload', expressions.payload, { dreg: register, base: NFT_PAYLOAD_TRANSPORT_HEADER, offset: 2, length: 2 }),
  iifname: (register) => meta(NFT_META_IIFNAME, register),
  oifname: (register) => meta(NFT_META_OIFNAME, register),
}

/** Looks the fields, side by side, up in a set; goes on when they are in it, or when they are not. */
export function inSet(set: string, fields: readonly Field[], is: 'in' | 'not in' = 'in'): readonly Expression[] {
  const flags = is === 'in' ? {} : { flags: NFT_LOOKUP_F_INV }
  return [...load(fields), make('lookup', expressions.lookup, { set, sreg: NFT_REG_1, ...flags })]
}

/** Looks the fields up in a map, and translates the destination to the address found, and to the port when the map has one. */
export function translate(map: string, fields: readonly Field[], to: { readonly family: 4 | 6; readonly port: boolean }): readonly Expression[] {
  const port = to.port ? { protoMin: quarter(to.family === 4 ? 1 : 4) } : {}
  return [
    ...load(fields),
    make('lookup', expressions.lookup, { set: map, sreg: NFT_REG_1, dreg: NFT_REG_1 }),
    make('nat', expressions.nat, { type: NFT_NAT_DNAT, family: NFPROTO[to.family], addressMin: NFT_REG_1, ...port }),
  ]
}

/** Looks the fields up in a map of verdicts and does what it says; goes on when they are not in it. */
export function decide(map: string, fields: readonly Field[]): readonly Expression[] {
  return [...load(fields), make('lookup', expressions.lookup, { set: map, sreg: NFT_REG_1, dreg: NFT_REG_VERDICT })]
}

/** Looks the fields up in a map, and translates the source to the address found. */
export function translateSource(map: string, fields: readonly Field[], family: 4 | 6): readonly Expression[] {
  return [
    ...load(fields),
    make('lookup', expressions.lookup, { set: map, sreg: NFT_REG_1, dreg: NFT_REG_1 }),
    make('nat', expressions.nat, { type: NFT_NAT_SNAT, family: NFPROTO[family], addressMin: NFT_REG_1 }),
  ]
}

export function familyIs(family: 4 | 6): readonly Expression[] {
  return [meta(NFT_META_NFPROTO, NFT_REG_1), compare('is', Uint8Array.of(NFPROTO[family]))]
}

/** The first bytes of a field. */
export function startsWith(
  field: 'source4' | 'destination4' | 'source6' | 'destination6',
  value: Uint8Array,
  is: 'is' | 'is not' = 'is',
): readonly Expression[] {
  const offset = { source4: 12, destination4: 16, source6: 8, destination6: 24 }[field]
  return [network(offset, value.length, NFT_REG_1), compare(is, value)]
}

/** The destination is no multicast address: 224.0.0.0/4, ff00::/8. */
export function toOneHost(family: 4 | 6): readonly Expression[] {
  if (family === 6) return startsWith('destination6', Uint8Array.of(0xff), 'is not')
  const prefix = (byte: number) => ({ value: Uint8Array.of(byte, 0, 0, 0) })
  return [
    network(16, 4, NFT_REG_1),
    make('bitwise', expressions.bitwise, { sreg: NFT_REG_1, dreg: NFT_REG_1, length: 4, mask: prefix(0xf0), xor: prefix(0) }),
    compare('is not', prefix(0xe0).value),
  ]
}

export function arrivedBy(is: 'is' | 'is not', ifname: string): readonly Expression[] {
  return [meta(NFT_META_IIFNAME, NFT_REG_1), compare(is, nameBytes(ifname))]
}

/** Bits of `ct state`: invalid 1, established 2, related 4; of `ct status`: translated destination 0x20. */
export function tracked(key: 'state' | 'status', bits: number): readonly Expression[] {
  const word = (value: number) => ({ value: Uint8Array.of(value, 0, 0, 0) })
  return [
    make('ct', expressions.ct, { dreg: NFT_REG_1, key: key === 'state' ? NFT_CT_STATE : NFT_CT_STATUS }),
    make('bitwise', expressions.bitwise, { sreg: NFT_REG_1, dreg: NFT_REG_1, length: 4, mask: word(bits), xor: word(0) }),
    compare('is not', word(0).value),
  ]
}

/** The destination is an address of this host. */
export function toThisHost(): readonly Expression[] {
  return [
    make('fib', expressions.fib, { dreg: NFT_REG_1, result: NFT_FIB_RESULT_ADDRTYPE, flags: NFTA_FIB_F_DADDR }),
    compare('is', Uint8Array.of(RTN_LOCAL, 0, 0, 0)),
  ]
}

/** @returns The data of an element of a map of verdicts. */
export function jumpTo(chain: string): { readonly verdict: { readonly code: number; readonly chain: string } } {
  return { verdict: { code: NFT_JUMP, chain } }
}

const VERDICT = { accept: NF_ACCEPT, drop: NF_DROP, return: NFT_RETURN } as const

export function verdict(what: keyof typeof VERDICT | { readonly jump: string }): Expression {
  const value = typeof what === 'object' ? jumpTo(what.jump) : { verdict: { code: VERDICT[what] } }
  return make('immediate', expressions.immediate, { dreg: NFT_REG_VERDICT, data: value })
}

export function masquerade(): Expression {
  return make('masq', expressions.masq, {})
}

/** @returns An interface name as the kernel compares it: 16 bytes, zeros behind it. */
export function nameBytes(ifname: string): Uint8Array {
  const bytes = new Uint8Array(IFNAME_LENGTH)
  bytes.set(Buffer.from(ifname, 'utf8').subarray(0, IFNAME_LENGTH - 1))
  return bytes
}

/** Fields lie side by side in registers, each in whole quarters. */
function load(fields: readonly Field[]): readonly Expression[] {
  let at = 0
  return fields.map((field) => {
    const expression = LOAD[field](at === 0 ? NFT_REG_1 : quarter(at))
    at += Math.ceil(FIELD_LENGTH[field] / 4)
    return expression
  })
}

/** @returns A quarter of a register: 4 bytes. */
export function quarter(index: number): number {
  return NFT_REG32_00 + index
}

function network(offset: number, length: number, register: number): Expression {
  return make('payload', expressions.payload, { dreg: register, base: NFT_PAYLOAD_NETWORK_HEADER, offset, length })
}

/** Loads what the kernel knows about the packet beside its bytes. */
export function meta(key: number, register: number): Expression {
  return make('meta', expressions.meta, { dreg: register, key })
}

/** Compares the first bytes of the first register. */
export function compare(is: 'is' | 'is not', value: Uint8Array): Expression {
  return make('cmp', expressions.cmp, { sreg: NFT_REG_1, op: is === 'is' ? NFT_CMP_EQ : NFT_CMP_NEQ, data: { value } })
}

/** @returns An expression of the kind `name`. */
export function make<T extends Table>(name: string, table: T, value: Infer<T>): Expression {
  const writer = new ByteWriter()
  encodeAttributes(writer, table, value)
  return { name, data: Buffer.from(writer.view()) }
}
