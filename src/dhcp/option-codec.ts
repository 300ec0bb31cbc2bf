/** How the values of DHCP options stand in bytes. @see RFC 2132; RFC 3397 (domain search); RFC 3442 (classless routes) */
import { addressFromBytes, addressToBytes, formatAddress, parseAddress } from '../wire/ip-address.ts'
import { decodeDomains, encodeDomains } from './domain-list.ts'

/** One option: its code, and its value as bytes and back. */
export interface Option<T> {
  readonly code: number
  /** The name by which configurations call it. @see dhcp-options(5) */
  readonly name: string
  encode(value: T): Uint8Array
  /** @throws RangeError when the payload has not the option's form */
  decode(payload: Buffer): T
}

/** A route of option 33 or 121. */
export interface OfferedRoute {
  /** `network/length`. */
  readonly destination: string
  /** 0.0.0.0: the destination is on the link. */
  readonly gateway: string
}

export function u8(code: number, name: string): Option<number> {
  return { code, name, encode: (value) => Buffer.of(value), decode: (payload) => sized(payload, 1).readUInt8() }
}

export function u16(code: number, name: string): Option<number> {
  const encode = (value: number) => {
    const bytes = Buffer.alloc(2)
    bytes.writeUInt16BE(value)
    return bytes
  }
  return { code, name, encode, decode: (payload) => sized(payload, 2).readUInt16BE() }
}

export function u32(code: number, name: string): Option<number> {
  const encode = (value: number) => {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32BE(value)
    return bytes
  }
  return { code, name, encode, decode: (payload) => sized(payload, 4).readUInt32BE() }
}

export function bytes(code: number, name: string): Option<Uint8Array> {
  return { code, name, encode: (value) => value, decode: (payload) => payload }
}

/** Text; some servers end it with a zero byte. */
export function text(code: number, name: string): Option<string> {
  return { code, name, encode: (value) => Buffer.from(value), decode: (payload) => payload.toString('utf8').replace(/\0+$/, '') }
}

/** An IPv4 address, dotted. */
export function ipv4(code: number, name: string): Option<string> {
  return { code, name, encode: ipv4Bytes, decode: (payload) => ipv4Text(sized(payload, 4)) }
}

export function ipv4List(code: number, name: string): Option<readonly string[]> {
  return {
    code,
    name,
    encode: (values) => Buffer.concat(values.map(ipv4Bytes)),
    decode: (payload) => pieces(payload, 4).map(ipv4Text),
  }
}

export function domains(code: number, name: string): Option<readonly string[]> {
  return { code, name, encode: encodeDomains, decode: decodeDomains }
}

/** Pairs of a network, whose length follows from its class, and a router. @see RFC 2132, 5.8 */
export function classfulRoutes(code: number, name: string): Option<readonly OfferedRoute[]> {
  return {
    code,
    name,
    encode: (routes) => Buffer.concat(routes.flatMap(({ destination, gateway }) => [ipv4Bytes(addressOf(destination)), ipv4Bytes(gateway)])),
    decode: (payload) =>
      pieces(payload, 8).flatMap((pair) => {
        const network = ipv4Text(pair.subarray(0, 4))
        const length = classLength(pair[0] as number)
        // A default route is not allowed here.
        return length === undefined || network === '0.0.0.0' ? [] : [{ destination: `${network}/${length}`, gateway: ipv4Text(pair.subarray(4)) }]
      }),
  }
}

/** A prefix length, as many bytes of the network as it covers, and a router, each. @see RFC 3442 */
export function classlessRoutes(code: number, name: string): Option<readonly OfferedRoute[]> {
  const encode = (routes: readonly OfferedRoute[]) =>
    Buffer.concat(
      routes.flatMap(({ destination, gateway }) => {
        const length = Number(destination.split('/')[1])
        return [Buffer.of(length), ipv4Bytes(addressOf(destination)).subarray(0, Math.ceil(length / 8)), ipv4Bytes(gateway)]
      }),
    )
  const decode = (payload: Buffer) => {
    const routes: OfferedRoute[] = []
    for (let at = 0; at < payload.length; ) {
      const length = payload[at] as number
      const end = at + 1 + Math.ceil(length / 8) + 4
      if (length > 32 || end > payload.length) throw new RangeError('DHCP route is short, or longer than an address')
      const network = Buffer.alloc(4)
      payload.copy(network, 0, at + 1, end - 4)
      const mask = length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0
      network.writeUInt32BE((network.readUInt32BE() & mask) >>> 0)
      routes.push({ destination: `${ipv4Text(network)}/${length}`, gateway: ipv4Text(payload.subarray(end - 4, end)) })
      at = end
    }
    return routes
  }
  return { code, name, encode, decode }
}

/** @param text A dotted IPv4 address. @throws RangeError for anything else */
export function ipv4Bytes(text: string): Uint8Array {
  const address = parseAddress(text)
  if (address?.family !== 4) throw new RangeError(`${JSON.stringify(text)} is no IPv4 address`)
  return addressToBytes(address)
}

/** @param four Its bytes. */
export function ipv4Text(four: Uint8Array): string {
  return formatAddress(addressFromBytes(four))
}

function addressOf(prefix: string): string {
  return prefix.slice(0, prefix.indexOf('/'))
}

function classLength(first: number): number | undefined {
  if (first < 128) return 8
  if (first < 192) return 16
  return first < 224 ? 24 : undefined
}

function sized(payload: Buffer, size: number): Buffer {
  if (payload.length !== size) throw new RangeError(`DHCP option has ${payload.length} bytes, not ${size}`)
  return payload
}

function pieces(payload: Buffer, size: number): readonly Buffer[] {
  if (payload.length === 0 || payload.length % size !== 0) throw new RangeError(`DHCP option has ${payload.length} bytes, no multiple of ${size}`)
  return Array.from({ length: payload.length / size }, (_, i) => payload.subarray(size * i, size * (i + 1)))
}
