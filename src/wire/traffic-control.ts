/**
 * Queueing disciplines and filters: struct tcmsg, and the options of tbf, ingress, u32 and mirred that tsnet writes.
 * @see include/uapi/linux/rtnetlink.h, pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h (Linux 6.18)
 */
import { bytes, type Codec, cstring, decodeAttributes, encodeAttributes, type Infer, list, nested, u32 } from './attribute.ts'
import type { ByteWriter } from './byte-writer.ts'

export const RTM_NEWQDISC = 36
export const RTM_DELQDISC = 37
export const RTM_GETQDISC = 38
export const RTM_NEWTFILTER = 44
export const RTM_GETTFILTER = 46

export const TC_H_ROOT = 0xffffffff
export const TC_H_INGRESS = 0xfffffff1
/** The packet is taken; nobody else sees it. */
const TC_ACT_STOLEN = 4
const TCA_EGRESS_REDIR = 1
/** The key decides, no other table is asked. */
const TC_U32_TERMINAL = 1

export interface TrafficControlHeader {
  readonly index: number
  readonly handle: number
  readonly parent: number
  /** Of a filter: priority in the upper half, protocol in network byte order in the lower. */
  readonly info: number
}

/** struct tc_tbf_qopt, of which the peak rate stays 0. */
export interface TokenBucket {
  /** Bytes a second, 32 bits; more is in `rate64`. */
  readonly rate: number
  /** Bytes that may wait. */
  readonly limit: number
  /** The time that the burst takes at this rate, ticks of the packet scheduler. */
  readonly buffer: number
}

const TBF_SIZE = 36
const tokenBucket: Codec<TokenBucket> = {
  encode: (w, { rate, limit, buffer }) => {
    w.u32(0).u32(0).u32(rate).u32(0).u32(0).u32(0).u32(limit).u32(buffer).u32(0)
  },
  decode: (payload) => {
    if (payload.length < TBF_SIZE) throw new RangeError(`Token bucket is short: ${payload.length} of ${TBF_SIZE} bytes`)
    return { rate: payload.readUInt32LE(8), limit: payload.readUInt32LE(24), buffer: payload.readUInt32LE(28) }
  },
}

export const tbf = { parameters: { type: 1, ...tokenBucket }, rate64: bytes(4) }

const mirred = { parameters: bytes(2) }
const action = { kind: cstring(1), options: nested(2, mirred) }
export const u32Filter = { classid: u32(1), selector: bytes(5), actions: list(7, nested(1, action)) }

const kindOnly = { kind: cstring(1) }
const withTokenBucket = { ...kindOnly, options: nested(2, tbf) }
const withU32 = { ...kindOnly, options: nested(2, u32Filter) }

export type Qdisc = TrafficControlHeader & { readonly kind?: string; readonly tokenBucket?: Infer<typeof tbf> }

export function encodeTokenBucket(writer: ByteWriter, header: TrafficControlHeader, options: Infer<typeof tbf>): void {
  encodeHeader(writer, header)
  encodeAttributes(writer, withTokenBucket, { kind: 'tbf', options })
}

/** A discipline without options, or a request that names only where. */
export function encodePlainQdisc(writer: ByteWriter, header: TrafficControlHeader, kind?: string): void {
  encodeHeader(writer, header)
  if (kind !== undefined) encodeAttributes(writer, kindOnly, { kind })
}

/** A filter that fits every packet and sends it out of another link. @param classid Of the class that the packet counts to */
export function encodeRedirect(
  writer: ByteWriter,
  header: TrafficControlHeader,
  { classid, to }: { readonly classid: number; readonly to: number },
): void {
  encodeHeader(writer, header)
  const actions = [{ kind: 'mirred', options: { parameters: redirectTo(to) } }]
  encodeAttributes(writer, withU32, { kind: 'u32', options: { classid, selector: matchAll(), actions } })
}

export function decodeQdisc(body: Buffer): Qdisc {
  const header = decodeHeader(body)
  const { kind } = decodeAttributes(body.subarray(20), kindOnly)
  if (kind !== 'tbf') return { ...header, ...(kind !== undefined && { kind }) }
  const { options } = decodeAttributes(body.subarray(20), withTokenBucket)
  return { ...header, kind, ...(options && { tokenBucket: options }) }
}

/** @returns Where a filter sends what it fits, an index; undefined for another filter, or one that does something else. */
export function decodeRedirect(body: Buffer): number | undefined {
  decodeHeader(body)
  if (decodeAttributes(body.subarray(20), kindOnly).kind !== 'u32') return undefined
  const found = decodeAttributes(body.subarray(20), withU32).options?.actions?.find(({ kind }) => kind === 'mirred')?.options?.parameters
  return found === undefined || found.length < 28 ? undefined : Buffer.from(found).readUInt32LE(24)
}

function encodeHeader(writer: ByteWriter, { index, handle, parent, info }: TrafficControlHeader): void {
  writer.u8(0).u8(0).u16(0).i32(index).u32(handle).u32(parent).u32(info)
}

function decodeHeader(body: Buffer): TrafficControlHeader {
  if (body.length < 20) throw new RangeError(`Traffic control message is short: ${body.length} of 20 bytes`)
  return { index: body.readInt32LE(4), handle: body.readUInt32LE(8), parent: body.readUInt32LE(12), info: body.readUInt32LE(16) }
}

/** struct tc_u32_sel with one key, whose mask is 0. */
function matchAll(): Uint8Array {
  const selector = new Uint8Array(32)
  selector[0] = TC_U32_TERMINAL
  selector[2] = 1
  return selector
}

/** struct tc_mirred. */
function redirectTo(index: number): Uint8Array {
  const parameters = Buffer.alloc(28)
  parameters.writeInt32LE(TC_ACT_STOLEN, 8)
  parameters.writeInt32LE(TCA_EGRESS_REDIR, 20)
  parameters.writeUInt32LE(index, 24)
  return parameters
}
