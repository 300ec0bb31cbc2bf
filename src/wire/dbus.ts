/** Messages of D-Bus, as far as one who listens to signals needs them. @see D-Bus Specification 0.43, "Message Protocol" */
import { ByteWriter } from './byte-writer.ts'

const METHOD_CALL = 1
export const METHOD_RETURN = 2
export const SIGNAL = 4

const LITTLE_ENDIAN = 0x6c
const PROTOCOL_VERSION = 1
const PREFIX_LENGTH = 16
/** Bytes; the specification allows more, nothing that is listened to needs it. */
const LONGEST = 1 << 20

/** Header fields, code and signature, in the order in which libdbus writes them. @see "Header Fields" */
const FIELDS = {
  path: { code: 1, signature: 'o' },
  destination: { code: 6, signature: 's' },
  interface: { code: 2, signature: 's' },
  member: { code: 3, signature: 's' },
  signature: { code: 8, signature: 'g' },
  sender: { code: 7, signature: 's' },
} as const

type FieldName = keyof typeof FIELDS

export type DBusFields = { readonly [K in FieldName]?: string }

export interface DBusCall {
  /** Not 0. */
  readonly serial: number
  readonly path: string
  readonly interface: string
  readonly member: string
  readonly destination: string
  readonly arguments: readonly string[]
}

export interface DBusMessage extends DBusFields {
  /** METHOD_RETURN, SIGNAL, … */
  readonly type: number
  /** Bytes that the message takes. */
  readonly length: number
}

/** @returns A method call whose arguments are strings. */
export function encodeCall(call: DBusCall): Buffer {
  const body = new ByteWriter()
  for (const argument of call.arguments) writeString(body, argument)
  const signature = 's'.repeat(call.arguments.length)
  const fields: DBusFields = { ...pick(call), ...(signature !== '' && { signature }) }
  const writer = new ByteWriter()
  writer.u8(LITTLE_ENDIAN).u8(METHOD_CALL).u8(0).u8(PROTOCOL_VERSION)
  writer.u32(body.length).u32(call.serial).u32(0)
  for (const name of Object.keys(FIELDS) as FieldName[]) {
    const value = fields[name]
    if (value !== undefined) writeField(writer, name, value)
  }
  writer.setU32(12, writer.length - PREFIX_LENGTH)
  return Buffer.from(pad(writer, 8).bytes(body.view()).view())
}

/**
 * Reads the first message of a stream; its body is passed over.
 * @returns undefined when more bytes have to come first
 * @throws RangeError for what is no message, or one of more than a MiB
 */
export function decodeMessage(data: Buffer): DBusMessage | undefined {
  if (data.length < PREFIX_LENGTH) return undefined
  const little = data[0] === LITTLE_ENDIAN
  if ((!little && data[0] !== 0x42) || data[3] !== PROTOCOL_VERSION) throw new RangeError('D-Bus message does not begin as one')
  const u32 = (offset: number) => (little ? data.readUInt32LE(offset) : data.readUInt32BE(offset))
  const fieldsEnd = PREFIX_LENGTH + u32(12)
  const length = roundUp(fieldsEnd, 8) + u32(4)
  if (length > LONGEST) throw new RangeError(`D-Bus message is too long: ${length} bytes`)
  if (data.length < length) return undefined
  return { type: data[1] as number, length, ...decodeFields(data.subarray(0, fieldsEnd), u32) }
}

function decodeFields(data: Buffer, u32: (offset: number) => number): DBusFields {
  const fields: Record<string, string> = {}
  for (let at = PREFIX_LENGTH; at < data.length; ) {
    at = roundUp(at, 8)
    if (at + 4 > data.length) throw new RangeError('D-Bus header field is short')
    const signature = data.toString('latin1', at + 2, at + 3)
    if (data[at + 1] !== 1) throw new RangeError('D-Bus header field is of no simple type')
    const name = (Object.keys(FIELDS) as FieldName[]).find((key) => FIELDS[key].code === data[at])
    const { value, end } = decodeValue(data, { at: at + 4, signature, u32 })
    if (name !== undefined && value !== undefined) fields[name] = value
    at = end
  }
  return fields
}

interface Place {
  readonly at: number
  readonly signature: string
  readonly u32: (offset: number) => number
}

function decodeValue(data: Buffer, { at, signature, u32 }: Place): { readonly value?: string; readonly end: number } {
  const start = signature === 'g' ? at + 1 : roundUp(at, 4) + 4
  if (start > data.length) throw new RangeError('D-Bus header field is short')
  if (signature === 'u') return { end: start }
  if (!['s', 'o', 'g'].includes(signature)) throw new RangeError(`D-Bus header field is of type "${signature}"`)
  const length = signature === 'g' ? (data[at] as number) : u32(start - 4)
  const end = start + length + 1
  if (end > data.length) throw new RangeError('D-Bus header field is short')
  return { value: data.toString('utf8', start, start + length), end }
}

function pick({ path, interface: name, member, destination }: DBusCall): DBusFields {
  return { path, interface: name, member, destination }
}

function writeField(writer: ByteWriter, name: FieldName, value: string): void {
  const { code, signature } = FIELDS[name]
  pad(writer, 8).u8(code).u8(1).bytes(Buffer.from(signature)).u8(0)
  if (signature !== 'g') writeString(writer, value)
  else writer.u8(value.length).bytes(Buffer.from(value)).u8(0)
}

function writeString(writer: ByteWriter, value: string): void {
  const bytes = Buffer.from(value)
  pad(writer, 4).u32(bytes.length).bytes(bytes).u8(0)
}

function pad(writer: ByteWriter, boundary: number): ByteWriter {
  return writer.bytes(Buffer.alloc(roundUp(writer.length, boundary) - writer.length))
}

function roundUp(value: number, boundary: number): number {
  return Math.ceil(value / boundary) * boundary
}
