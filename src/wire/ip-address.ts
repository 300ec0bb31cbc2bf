/** IP addresses and prefixes: text ⇄ bytes ⇄ numbers. */

export type Family = 4 | 6

export interface IpAddress {
  readonly family: Family
  /** 0 to 2^32-1 or 2^128-1. */
  readonly value: bigint
}

export interface IpPrefix {
  readonly address: IpAddress
  /** 0..32 or 0..128. */
  readonly prefixLength: number
}

/** @returns How many bits an address of this family has. */
export function addressBits(family: Family): number {
  return family === 4 ? 32 : 128
}

/** @returns The address with its whole length. */
export function singlePrefix(address: IpAddress): IpPrefix {
  return { address, prefixLength: addressBits(address.family) }
}

/**
 * @param text Dotted decimal without leading zeros, or RFC 4291 text without a zone.
 * @returns The address, or undefined when the text is none.
 */
export function parseAddress(text: string): IpAddress | undefined {
  if (text.includes(':')) return parseV6(text)
  const value = parseV4(text)
  return value === undefined ? undefined : { family: 4, value: BigInt(value) }
}

/** @param text `address/length`; the host bits are kept. @returns The prefix, or undefined when the text is none. */
export function parsePrefix(text: string): IpPrefix | undefined {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(text)
  const address = match?.[1] === undefined ? undefined : parseAddress(match[1])
  if (address === undefined) return undefined
  const prefixLength = Number(match?.[2])
  return prefixLength <= addressBits(address.family) && String(prefixLength) === match?.[2] ? { address, prefixLength } : undefined
}

/** @returns Dotted decimal, or RFC 5952 text. */
export function formatAddress(address: IpAddress): string {
  if (address.family === 4) return formatV4(Number(address.value))
  const groups = Array.from({ length: 8 }, (_, i) => Number((address.value >> BigInt(112 - 16 * i)) & 0xffffn))
  const { start, length } = longestZeroRun(groups)
  const text = (part: readonly number[]) => part.map((group) => group.toString(16)).join(':')
  return length < 2 ? text(groups) : `${text(groups.slice(0, start))}::${text(groups.slice(start + length))}`
}

/** @returns `address/length`. */
export function formatPrefix(prefix: IpPrefix): string {
  return `${formatAddress(prefix.address)}/${prefix.prefixLength}`
}

/** @returns The address in network byte order, 4 or 16 bytes. */
export function addressToBytes(address: IpAddress): Uint8Array {
  const bytes = new Uint8Array(addressBits(address.family) / 8)
  if (address.family === 4) {
    const value = Number(address.value)
    bytes.set([value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255])
    return bytes
  }
  let rest = address.value
  for (let i = bytes.length - 1; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 255n)
  return bytes
}

/** @param bytes 4 or 16 bytes in network byte order. @throws RangeError for another length */
export function addressFromBytes(bytes: Uint8Array): IpAddress {
  if (bytes.length !== 4 && bytes.length !== 16) throw new RangeError(`An IP address has 4 or 16 bytes, not ${bytes.length}`)
  return { family: bytes.length === 4 ? 4 : 6, value: bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n) }
}

/** @returns The first address of the prefix: all host bits zero. */
export function networkAddress(prefix: IpPrefix): IpAddress {
  const host = hostBits(prefix)
  return { family: prefix.address.family, value: (prefix.address.value >> host) << host }
}

/** @returns The last address of the prefix: all host bits one. For IPv4 it is the broadcast address. */
export function lastAddress(prefix: IpPrefix): IpAddress {
  return { family: prefix.address.family, value: networkAddress(prefix).value | ((1n << hostBits(prefix)) - 1n) }
}

/** @returns Whether `address` is of the prefix's family and lies inside it. */
export function containsAddress(prefix: IpPrefix, address: IpAddress): boolean {
  const host = hostBits(prefix)
  return address.family === prefix.address.family && address.value >> host === prefix.address.value >> host
}

/** @returns Whether the two prefixes share an address. */
export function prefixesOverlap(a: IpPrefix, b: IpPrefix): boolean {
  return containsAddress(a, networkAddress(b)) || containsAddress(b, networkAddress(a))
}

function hostBits(prefix: IpPrefix): bigint {
  return BigInt(addressBits(prefix.address.family) - prefix.prefixLength)
}

function formatV4(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`
}

/** Anything but the one text of an address is refused, leading zeros too. */
function parseV4(text: string): number | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)
  if (match === null) return undefined
  const value = ((Number(match[1]) * 256 + Number(match[2])) * 256 + Number(match[3])) * 256 + Number(match[4])
  return formatV4(value) === text ? value : undefined
}

function parseV6(text: string): IpAddress | undefined {
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const [head, tail] = halves.map((half, i) => parseGroups(half, i === halves.length - 1))
  if (head === undefined || (halves.length === 2 && tail === undefined)) return undefined
  const given = head.length + (tail?.length ?? 0)
  if (halves.length === 2 ? given > 7 : given !== 8) return undefined
  const groups = tail === undefined ? head : [...head, ...Array.from({ length: 8 - given }, () => 0), ...tail]
  return { family: 6, value: groups.reduce((value, group) => (value << 16n) | BigInt(group), 0n) }
}

/** @returns The 16-bit groups of one side of `::`; the last side may end in dotted decimal. */
function parseGroups(text: string, mayEndInV4: boolean): number[] | undefined {
  if (text === '') return []
  const groups: number[] = []
  const parts = text.split(':')
  for (const [i, part] of parts.entries()) {
    if (mayEndInV4 && i === parts.length - 1 && part.includes('.')) {
      const value = parseV4(part)
      if (value === undefined) return undefined
      groups.push(value >>> 16, value & 0xffff)
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) groups.push(Number.parseInt(part, 16))
    else return undefined
  }
  return groups
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 }
  for (let start = 0; start < groups.length; start++) {
    let length = 0
    while (groups[start + length] === 0) length++
    if (length > best.length) best = { start, length }
  }
  return best
}
