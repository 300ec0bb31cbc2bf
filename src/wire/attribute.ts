/**
 * Netlink attributes as tables: a message is a record of named attributes, and its TypeScript type is inferred from it.
 * @see include/uapi/linux/netlink.h, struct nlattr (Linux 6.18)
 */
import type { ByteWriter } from './byte-writer.ts'

const NLA_F_NESTED = 0x8000
const NLA_TYPE_MASK = 0x3fff
const NLA_HDRLEN = 4

export interface Codec<T> {
  encode(writer: ByteWriter, value: T): void
  /** @throws RangeError when the payload is too short or has a wrong length */
  decode(payload: Buffer): T
}

export interface Attribute<T> extends Codec<T> {
  readonly type: number
  readonly nested?: boolean
}

export type Table = Readonly<Record<string, Attribute<unknown>>>

/** An attribute as it came. The payload is a view of what was decoded. */
export interface RawAttribute {
  readonly type: number
  readonly payload: Buffer
}

/** The value of a table: every attribute optional. */
export type Infer<T extends Table> = { readonly [K in keyof T]?: T[K] extends Attribute<infer V> ? V : never }

export function u8(type: number): Attribute<number> {
  return fixed(type, { size: 1, write: (w, value) => w.u8(value), read: (payload) => payload.readUInt8() })
}

export function u16(type: number): Attribute<number> {
  return fixed(type, { size: 2, write: (w, value) => w.u16(value), read: (payload) => payload.readUInt16LE() })
}

export function u32(type: number): Attribute<number> {
  return fixed(type, { size: 4, write: (w, value) => w.u32(value), read: (payload) => payload.readUInt32LE() })
}

export function i32(type: number): Attribute<number> {
  return fixed(type, { size: 4, write: (w, value) => w.i32(value), read: (payload) => payload.readInt32LE() })
}

/** 16 bits in network byte order: ports. */
export function be16(type: number): Attribute<number> {
  return fixed(type, { size: 2, write: (w, value) => w.u8(value >> 8).u8(value & 255), read: (payload) => payload.readUInt16BE() })
}

/** 32 bits in network byte order, which nf_tables uses for all its numbers. */
export function be32(type: number): Attribute<number> {
  return fixed(type, {
    size: 4,
    write: (w, value) =>
      w
        .u8(value >>> 24)
        .u8((value >>> 16) & 255)
        .u8((value >>> 8) & 255)
        .u8(value & 255),
    read: (payload) => payload.readUInt32BE(),
  })
}

/** A nested list: every item an attribute of the same type. */
export function list<T>(type: number, item: Attribute<T>): Attribute<readonly T[]> {
  return {
    type,
    nested: true,
    encode: (w, values) => {
      for (const value of values) encodeAttribute(w, item, value)
    },
    decode: (payload) => [...eachAttribute(payload)].filter((entry) => entry.type === item.type).map((entry) => item.decode(entry.payload)),
  }
}

export function bytes(type: number): Attribute<Uint8Array> {
  return { type, encode: (w, value) => void w.bytes(value), decode: (payload) => payload }
}

/** Text without an end mark: its length says where it ends. */
export function text(type: number): Attribute<string> {
  return { ...cstring(type), encode: (w, value) => void w.bytes(Buffer.from(value, 'utf8')) }
}

/** Text that ends with a zero byte. */
export function cstring(type: number): Attribute<string> {
  return {
    type,
    encode: (w, value) => {
      if (value.includes('\0')) throw new RangeError('A netlink string cannot hold a zero byte')
      w.bytes(Buffer.from(`${value}\0`, 'utf8'))
    },
    decode: (payload) => payload.subarray(0, payload.at(-1) === 0 ? -1 : undefined).toString('utf8'),
  }
}

export function nested<T extends Table>(type: number, table: T): Attribute<Infer<T>> {
  return { type, nested: true, encode: (w, value) => encodeAttributes(w, table, value), decode: (payload) => decodeAttributes(payload, table) }
}

/** Writes one attribute: header, payload, padding. The length is patched in when the payload is known. */
export function encodeAttribute<T>(writer: ByteWriter, attribute: Attribute<T>, value: T): void {
  const start = writer.length
  writer.u16(0).u16(attribute.nested === true ? attribute.type | NLA_F_NESTED : attribute.type)
  attribute.encode(writer, value)
  writer.setU16(start, writer.length - start)
  writer.align()
}

/** Writes the attributes of `value` in the order of the value's keys. */
export function encodeAttributes<T extends Table>(writer: ByteWriter, table: T, value: Infer<T>): void {
  for (const [name, field] of Object.entries(value)) {
    const attribute = table[name]
    if (attribute !== undefined && field !== undefined) encodeAttribute(writer, attribute, field)
  }
}

/**
 * Reads what the table names. The kernel sends much more, a link has a hundred attributes: they are passed over, and cost nothing.
 * @throws RangeError when an attribute's length does not fit into what is left
 */
export function decodeAttributes<T extends Table>(data: Buffer, table: T): Infer<T> {
  const value: Record<string, unknown> = {}
  const names = namesByType(table)
  for (let offset = 0; offset < data.length; ) {
    const end = endOfAttribute(data, offset)
    const name = names.get(data.readUInt16LE(offset + 2) & NLA_TYPE_MASK)
    if (name !== undefined) value[name] = table[name]?.decode(data.subarray(offset + NLA_HDRLEN, end))
    offset = (end + 3) & ~3
  }
  return value as Infer<T>
}

/** Walks the attributes of a payload without interpreting them. */
export function* eachAttribute(data: Buffer): Generator<RawAttribute> {
  for (let offset = 0; offset < data.length; ) {
    const end = endOfAttribute(data, offset)
    yield { type: data.readUInt16LE(offset + 2) & NLA_TYPE_MASK, payload: data.subarray(offset + NLA_HDRLEN, end) }
    offset = (end + 3) & ~3
  }
}

function endOfAttribute(data: Buffer, offset: number): number {
  if (data.length - offset < NLA_HDRLEN) throw new RangeError(`Attribute header is short: ${data.length - offset} of ${NLA_HDRLEN} bytes`)
  const length = data.readUInt16LE(offset)
  if (length < NLA_HDRLEN) throw new RangeError(`Attribute length ${length} is smaller than its header`)
  if (length > data.length - offset) throw new RangeError(`Attribute is short: ${data.length - offset} of ${length} bytes`)
  return offset + length
}

const namesOfTables = new WeakMap<Table, ReadonlyMap<number, string>>()

function namesByType(table: Table): ReadonlyMap<number, string> {
  let names = namesOfTables.get(table)
  if (names === undefined) {
    names = new Map(Object.entries(table).map(([name, attribute]) => [attribute.type, name]))
    namesOfTables.set(table, names)
  }
  return names
}

interface Fixed {
  readonly size: number
  readonly write: (writer: ByteWriter, value: number) => void
  readonly read: (payload: Buffer) => number
}

function fixed(type: number, { size, write, read }: Fixed): Attribute<number> {
  return {
    type,
    encode: write,
    decode: (payload) => {
      if (payload.length < size) throw new RangeError(`Attribute ${type} is short: ${payload.length} of ${size} bytes`)
      return read(payload)
    },
  }
}
