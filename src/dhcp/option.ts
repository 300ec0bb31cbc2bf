/** The DHCP options that the client reads or writes, as a table: its type is inferred from it. @see RFC 2132 */
import { bytes, classfulRoutes, classlessRoutes, domains, ipv4, ipv4List, type Option, text, u8, u16, u32 } from './option-codec.ts'

const PAD = 0
const END = 255
/** A length is one byte. */
export const LONGEST_VALUE = 255

export const options = {
  subnetMask: ipv4(1, 'subnet-mask'),
  routers: ipv4List(3, 'routers'),
  nameservers: ipv4List(6, 'domain-name-servers'),
  hostName: text(12, 'host-name'),
  domainName: text(15, 'domain-name'),
  mtu: u16(26, 'interface-mtu'),
  broadcast: ipv4(28, 'broadcast-address'),
  staticRoutes: classfulRoutes(33, 'static-routes'),
  ntpServers: ipv4List(42, 'ntp-servers'),
  requestedAddress: ipv4(50, 'dhcp-requested-address'),
  leaseTime: u32(51, 'dhcp-lease-time'),
  overload: u8(52, 'dhcp-option-overload'),
  messageType: u8(53, 'dhcp-message-type'),
  serverID: ipv4(54, 'dhcp-server-identifier'),
  parameters: bytes(55, 'dhcp-parameter-request-list'),
  message: text(56, 'dhcp-message'),
  largestMessage: u16(57, 'dhcp-max-message-size'),
  renewalTime: u32(58, 'dhcp-renewal-time'),
  rebindingTime: u32(59, 'dhcp-rebinding-time'),
  vendorClass: bytes(60, 'vendor-class-identifier'),
  clientID: bytes(61, 'dhcp-client-identifier'),
  userClass: bytes(77, 'user-class'),
  domainSearch: domains(119, 'domain-search'),
  classlessRoutes: classlessRoutes(121, 'classless-static-routes'),
} as const

type Table = typeof options
type ValueOf<O> = O extends Option<infer T> ? T : never

/** An option as bytes: one that the table does not name, or whose value has not the form that it should have. */
export interface RawOption {
  readonly code: number
  readonly payload: Uint8Array
}

export type Options = { readonly [K in keyof Table]?: ValueOf<Table[K]> } & { readonly unknown?: readonly RawOption[] }

const BY_CODE: ReadonlyMap<number, keyof Table> = new Map((Object.keys(options) as (keyof Table)[]).map((key) => [options[key].code, key]))

/** @param word A name of dhcp-options(5), or a number. @returns The code, 1 to 254, or undefined when there is no such option. */
export function optionCode(word: string): number | undefined {
  const named = Object.values(options).find(({ name }) => name === word)
  if (named !== undefined) return named.code
  const number = /^\d{1,3}$/.test(word) ? Number(word) : 0
  return number >= 1 && number < END ? number : undefined
}

/** @returns The options in the order of the value's keys, then the unknown ones, and the end mark; values of more than 255 bytes in parts (RFC 3396). */
export function encodeOptions({ unknown = [], ...known }: Options): Buffer {
  const parts: Uint8Array[] = []
  const write = (code: number, value: Uint8Array) => {
    for (let at = 0; at === 0 || at < value.length; at += LONGEST_VALUE) {
      const piece = value.subarray(at, at + LONGEST_VALUE)
      parts.push(Buffer.of(code, piece.length), piece)
    }
  }
  for (const [key, value] of Object.entries(known)) {
    const option = options[key as keyof Table] as Option<unknown> | undefined
    if (option !== undefined && value !== undefined) write(option.code, option.encode(value))
  }
  for (const { code, payload } of unknown) write(code, payload)
  return Buffer.concat([...parts, Buffer.of(END)])
}

/**
 * @param areas The options field, and with option 52 the fields that hold options too, in the order in which they are read.
 * @returns Every option; parts of one are joined (RFC 3396). One server's odd NTP list must not cost a container its address,
 * so a value of another form than its option's counts as unknown.
 * @throws RangeError when an option is cut off
 */
export function decodeOptions(areas: readonly Buffer[]): Options {
  const values = new Map<number, Buffer>()
  for (const area of areas)
    for (const { code, payload } of eachOption(area)) values.set(code, Buffer.concat([values.get(code) ?? Buffer.alloc(0), payload]))
  const found: Record<string, unknown> = {}
  const unknown: RawOption[] = []
  for (const [code, payload] of values) {
    const key = BY_CODE.get(code)
    const value = key === undefined ? undefined : unlessMalformed(() => options[key].decode(payload))
    if (key === undefined || value === undefined) unknown.push({ code, payload })
    else found[key] = value
  }
  if (unknown.length > 0) found['unknown'] = unknown
  return found as Options
}

function* eachOption(area: Buffer): Generator<{ readonly code: number; readonly payload: Buffer }> {
  for (let at = 0; at < area.length; ) {
    const code = area[at++] as number
    if (code === END) return
    if (code === PAD) continue
    const length = area[at++]
    if (length === undefined || at + length > area.length) throw new RangeError(`DHCP option ${code} is cut off`)
    yield { code, payload: area.subarray(at, at + length) }
    at += length
  }
}

function unlessMalformed<T>(decode: () => T): T | undefined {
  try {
    return decode()
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}
