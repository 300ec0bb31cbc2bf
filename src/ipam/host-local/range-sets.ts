/** host-local's ranges of addresses, read as the reference plugin reads them, with its words where a configuration is wrong. */
import {
  addressBits,
  containsAddress,
  formatAddress,
  formatPrefix,
  type IpAddress,
  type IpPrefix,
  networkAddress,
  parseAddress,
  parsePrefix,
} from '../../wire/ip-address.ts'
import { formatSpan, hostSpan, type Range, type RangeSet, spansOverlap } from '../range.ts'
import { refuse } from '../subnet.ts'

/** One range as it is configured. */
export interface RangeTexts {
  readonly subnet: string
  readonly rangeStart?: string
  readonly rangeEnd?: string
  readonly gateway?: string
}

/**
 * @param sets In order: an attachment gets one address of each. Unlike other ranges of the project these may begin or end with the gateway, which is skipped.
 * @throws TsnetError TSNET_SUBNET, CNI code 7
 * @see containernetworking/plugins plugins/ipam/host-local/backend/allocator/config.go, LoadIPAMConfig
 */
export function parseHostLocalSets(sets: readonly (readonly RangeTexts[])[]): readonly RangeSet[] {
  if (sets.length === 0) throw refuse('no IP ranges specified', 'Give "ipam" a "subnet" or "ranges"')
  const parsed = sets.map((set, i) => parseSet(set, (why, hint) => refuse(`invalid range set ${i}: ${why}`, hint)))
  for (const [i, set] of parsed.entries()) {
    const other = parsed.findIndex((later, j) => j > i && set.some((a) => later.some((b) => spansOverlap(a, b))))
    if (other >= 0) throw refuse(`range set ${i} overlaps with ${other}`)
  }
  return parsed
}

/** @returns The ranges of a set as the reference plugin's messages name them: `10.0.0.1-10.0.0.254,10.0.1.1-10.0.1.254`. */
export function formatHostLocalSet(set: RangeSet): string {
  return set.map(formatSpan).join(',')
}

type Refuse = (why: string, hint?: string) => Error

function parseSet(set: readonly RangeTexts[], refuseIt: Refuse): RangeSet {
  if (set.length === 0) throw refuseIt('empty range set')
  const ranges = set.map((range) => parseRange(range, refuseIt))
  if (ranges.some(({ first }) => first.family !== ranges[0]?.first.family)) throw refuseIt('mixed address families')
  for (const [i, a] of ranges.entries()) {
    const b = ranges.slice(i + 1).find((later) => spansOverlap(a, later))
    if (b !== undefined) throw refuseIt(`subnets ${formatSpan(a)} and ${formatSpan(b)} overlap`)
  }
  return ranges
}

function parseRange(texts: RangeTexts, refuseIt: Refuse): Range {
  const subnet = parsePrefix(texts.subnet)
  if (subnet === undefined) throw refuseIt(`${JSON.stringify(texts.subnet)} is not of the form address/length`)
  const { prefixLength } = subnet
  const { family } = subnet.address
  if (prefixLength > addressBits(family) - 2) throw refuseIt(`Network ${formatPrefix(subnet)} too small to allocate from`)
  const network = networkAddress(subnet)
  if (network.value !== subnet.address.value) {
    throw refuseIt(
      `Network has host bits set. For a subnet mask of length ${prefixLength} the network address is ${formatAddress(network)}`,
      `Write ${formatPrefix({ address: network, prefixLength })}`,
    )
  }
  const hosts = hostSpan(subnet)
  const first = inside(texts.rangeStart, subnet, refuseIt) ?? hosts.first
  const last = inside(texts.rangeEnd, subnet, refuseIt) ?? hosts.last
  if (first.value > last.value) {
    throw refuseIt(`${formatAddress(last)} is in network ${formatPrefix(subnet)} but before start ${formatAddress(first)}`)
  }
  const gateway = texts.gateway ? address(texts.gateway, refuseIt) : hosts.first
  if (gateway.family !== family) throw refuseIt(`gateway ${texts.gateway} is not of the family of ${formatPrefix(subnet)}`)
  return {
    subnet,
    // Nobody can use the network's own address, nor in IPv4 the broadcast address.
    first: first.value < hosts.first.value ? hosts.first : first,
    last: last.value > hosts.last.value ? hosts.last : last,
    gateway,
    exclude: [],
  }
}

function inside(text: string | undefined, subnet: IpPrefix, refuseIt: Refuse): IpAddress | undefined {
  if (!text) return undefined
  const bound = address(text, refuseIt)
  if (bound.family !== subnet.address.family) throw refuseIt(`IP ${text} is not the same protocol as subnet ${formatPrefix(subnet)}`)
  if (!containsAddress(subnet, bound)) throw refuseIt(`${text} not in network ${formatPrefix(subnet)}`)
  return bound
}

function address(text: string, refuseIt: Refuse): IpAddress {
  const parsed = parseAddress(text)
  if (parsed === undefined) throw refuseIt(`${JSON.stringify(text)} is not an IP address`)
  return parsed
}
