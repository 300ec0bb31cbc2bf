/** From a configuration of host-local's form to range sets. Every refusal names the value and has its own message. */
import { CNI_CODE, TsnetError } from '../error.ts'
import {
  addressBits,
  containsAddress,
  formatAddress,
  formatPrefix,
  type IpAddress,
  type IpPrefix,
  lastAddress,
  networkAddress,
  parseAddress,
  parsePrefix,
  prefixesOverlap,
} from '../wire/ip-address.ts'
import { type AddressSpan, formatSpan, hostSpan, makeRange, type Range, type RangeSet, spansOverlap } from './range.ts'

type Fields = Readonly<Record<string, unknown>>

/**
 * @param ipam The `ipam` object with host-local's keys, spelled exactly: `subnet`, `rangeStart`, `rangeEnd`, `gateway`, which make
 * the first set, then `ranges`; and `exclude` (`10.0.0.5`, `10.0.0.10-10.0.0.20` or `10.0.0.128/25`) here or in a range. Other keys are not read.
 * @param ipRanges `runtimeConfig.ipRanges`, of the form of `ranges`; its sets go before the others.
 * @returns One set for each address that an attachment gets; empty when the configuration names no subnet.
 * @throws TsnetError TSNET_SUBNET for every value that cannot be served
 * @see containernetworking/plugins plugins/ipam/host-local/backend/allocator/config.go LoadIPAMConfig
 */
export function parseRangeSets(ipam: Fields, ipRanges?: unknown): readonly RangeSet[] {
  const single = string(ipam, 'subnet') === undefined ? [] : [[{ ...ipam, exclude: undefined }]]
  const wanted = [...sets(ipRanges, 'ipRanges'), ...single, ...sets(ipam['ranges'], 'ranges')]
  if (wanted.length === 0) {
    for (const key of ['rangeStart', 'rangeEnd', 'gateway'])
      if (ipam[key] !== undefined) throw refuse(`"${key}" ${JSON.stringify(ipam[key])} needs a "subnet" beside it`)
    return []
  }
  const exclude = list(ipam['exclude'], 'exclude').map(parseExclude)
  const parsed = wanted.map((set) => set.map((range) => parseRange(range, exclude)))
  for (const span of exclude) {
    if (!parsed.flat().some((range) => spansOverlap(subnetSpan(range.subnet), span)))
      throw refuse(`Excluded ${formatSpan(span)} lies in no subnet of this network`)
  }
  parsed.forEach(checkFamily)
  checkOverlaps(parsed)
  return parsed
}

/**
 * @param text `address/length` without host bits, short enough to hold a gateway and a container: at most /30 or /126.
 * @throws TsnetError TSNET_SUBNET
 */
export function parseSubnet(text: string): IpPrefix {
  const prefix = parsePrefix(text)
  if (prefix === undefined) throw refuse(`Subnet ${JSON.stringify(text)} is not of the form address/length`)
  const network = { address: networkAddress(prefix), prefixLength: prefix.prefixLength }
  if (network.address.value !== prefix.address.value) {
    throw refuse(
      `Subnet ${JSON.stringify(text)} has host bits set`,
      `Write ${formatPrefix(network)}, the subnet that ${formatAddress(prefix.address)} lies in`,
    )
  }
  const longest = addressBits(prefix.address.family) - 2
  if (prefix.prefixLength > longest) throw refuse(`Subnet ${JSON.stringify(text)} is too small: the longest prefix is /${longest}`)
  return prefix
}

/** @throws TsnetError TSNET_SUBNET when the exclusions of a configuration leave nothing */
export function requireRange(subnet: IpPrefix, span: AddressSpan, gateway: IpAddress, exclude: readonly AddressSpan[]): Range {
  const range = makeRange(subnet, span, gateway, exclude)
  if (range !== undefined) return range
  throw refuse(
    `Range ${formatSpan(span)} of subnet ${formatPrefix(subnet)} holds no address to hand out: gateway ${formatAddress(gateway)} and exclusions take all`,
  )
}

/** @returns The refusal of a subnet or range in a configuration: code TSNET_SUBNET, CNI code 7. */
export function refuse(message: string, hint?: string): TsnetError {
  return new TsnetError('TSNET_SUBNET', message, { cniCode: CNI_CODE.invalidConfig, ...(hint === undefined ? {} : { hint }) })
}

function sets(value: unknown, key: string): readonly (readonly unknown[])[] {
  return list(value, key).map((set, i) => {
    if (!Array.isArray(set)) throw refuse(`Set ${i} of "${key}" must be a list of ranges, not ${JSON.stringify(set)}`)
    if (set.length === 0) throw refuse(`Set ${i} of "${key}" must name at least one range`)
    return set
  })
}

function parseRange(value: unknown, shared: readonly AddressSpan[]): Range {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw refuse(`A range must be an object, not ${JSON.stringify(value)}`)
  const fields = value as Fields
  const text = string(fields, 'subnet')
  if (text === undefined) throw refuse(`Range ${JSON.stringify(value)} names no "subnet"`)
  const subnet = parseSubnet(text)
  const hosts = hostSpan(subnet)
  const first = inside(fields, 'rangeStart', subnet) ?? hosts.first
  const last = inside(fields, 'rangeEnd', subnet) ?? hosts.last
  if (first.value > last.value) throw refuse(`"rangeStart" ${formatAddress(first)} comes after "rangeEnd" ${formatAddress(last)}`)
  const exclude = list(fields['exclude'], 'exclude').map(parseExclude)
  for (const span of exclude) {
    if (!spansOverlap(subnetSpan(subnet), span)) throw refuse(`Excluded ${formatSpan(span)} lies outside subnet ${formatPrefix(subnet)}`)
  }
  return requireRange(subnet, { first, last }, parseGateway(fields, subnet), [...exclude, ...shared])
}

/** The gateway may lie outside the subnet, as with host-local: a route to it is the configuration's business. */
function parseGateway(fields: Fields, subnet: IpPrefix): IpAddress {
  const text = string(fields, 'gateway')
  if (text === undefined) return hostSpan(subnet).first
  const gateway = parseAddress(text)
  if (gateway === undefined) throw refuse(`"gateway" ${JSON.stringify(text)} is not an IP address`)
  if (gateway.family !== subnet.address.family) throw refuse(`"gateway" ${text} is not of the family of subnet ${formatPrefix(subnet)}`)
  if (gateway.family === 4 && containsAddress(subnet, gateway)) {
    if (gateway.value === networkAddress(subnet).value) throw refuse(`"gateway" ${text} is the network address of subnet ${formatPrefix(subnet)}`)
    if (gateway.value === lastAddress(subnet).value) throw refuse(`"gateway" ${text} is the broadcast address of subnet ${formatPrefix(subnet)}`)
  }
  return gateway
}

function inside(fields: Fields, key: 'rangeStart' | 'rangeEnd', subnet: IpPrefix): IpAddress | undefined {
  const text = string(fields, key)
  if (text === undefined) return undefined
  const address = parseAddress(text)
  if (address === undefined) throw refuse(`"${key}" ${JSON.stringify(text)} is not an IP address`)
  if (!containsAddress(subnet, address)) throw refuse(`"${key}" ${text} lies outside subnet ${formatPrefix(subnet)}`)
  return address
}

function parseExclude(value: unknown): AddressSpan {
  if (typeof value !== 'string') throw refuse(`"exclude" must list strings, not ${JSON.stringify(value)}`)
  if (value.includes('/')) {
    const prefix = parsePrefix(value)
    if (prefix === undefined) throw refuse(`Excluded ${JSON.stringify(value)} is not of the form address/length`)
    const network = { address: networkAddress(prefix), prefixLength: prefix.prefixLength }
    if (network.address.value === prefix.address.value) return subnetSpan(prefix)
    throw refuse(
      `Excluded ${JSON.stringify(value)} has host bits set`,
      `Write ${formatPrefix(network)} for the block or ${formatAddress(prefix.address)} for the address`,
    )
  }
  const [first, last] = value.split('-', 2).map((part) => parseAddress(part.trim()))
  if (first === undefined || (value.includes('-') && last === undefined))
    throw refuse(`Excluded ${JSON.stringify(value)} is not an address, first-last or address/length`)
  if (last === undefined) return { first, last: first }
  if (first.family !== last.family) throw refuse(`Excluded ${JSON.stringify(value)} mixes IPv4 and IPv6`)
  if (first.value > last.value) throw refuse(`Excluded ${JSON.stringify(value)} ends before it starts`)
  return { first, last }
}

function checkFamily(set: RangeSet): void {
  const [first, ...rest] = set
  const other = rest.find((range) => range.subnet.address.family !== first?.subnet.address.family)
  if (first === undefined || other === undefined) return
  throw refuse(
    `Subnets ${formatPrefix(first.subnet)} and ${formatPrefix(other.subnet)} of one range set are of different families`,
    'Give each family a range set of its own: an attachment gets one address from each set',
  )
}

/** @throws TsnetError TSNET_SUBNET that names the first two ranges that share an address */
export function checkOverlaps(sets: readonly RangeSet[]): void {
  const all = sets.flatMap((set, index) => set.map((range) => ({ range, index })))
  for (const [i, a] of all.entries()) {
    for (const b of all.slice(i + 1)) {
      if (!prefixesOverlap(a.range.subnet, b.range.subnet) || !spansOverlap(a.range, b.range)) continue
      const where = a.index === b.index ? `of range set ${a.index}` : `of range sets ${a.index} and ${b.index}`
      throw refuse(`Ranges ${formatSpan(a.range)} and ${formatSpan(b.range)} ${where} overlap`)
    }
  }
}

function subnetSpan(subnet: IpPrefix): AddressSpan {
  return { first: networkAddress(subnet), last: lastAddress(subnet) }
}

function string(fields: Fields, key: string): string | undefined {
  const value = fields[key]
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value !== 'string') throw refuse(`"${key}" must be a string, not ${JSON.stringify(value)}`)
  return value
}

function list(value: unknown, key: string): readonly unknown[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) throw refuse(`"${key}" must be a list, not ${JSON.stringify(value)}`)
  return value
}
