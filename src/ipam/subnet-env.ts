/** flannel's subnet.env as the source of a network's ranges. @see flannel pkg/subnet/subnet.go WriteSubnetFile */
import { formatPrefix, type IpPrefix, networkAddress, parsePrefix } from '../wire/ip-address.ts'
import { hostSpan, type RangeSet } from './range.ts'
import { parseSubnet, refuse, requireRange } from './subnet.ts'

export interface SubnetEnv {
  /** One set for each of FLANNEL_SUBNET and FLANNEL_IPV6_SUBNET. */
  readonly rangeSets: readonly RangeSet[]
  /** What all nodes share: FLANNEL_NETWORK and FLANNEL_IPV6_NETWORK. */
  readonly networks: readonly IpPrefix[]
  /** FLANNEL_MTU, bytes. */
  readonly mtu?: number
  readonly ipMasq?: boolean
}

/**
 * @param text The lines `KEY=value`; the address in FLANNEL_SUBNET=10.1.15.1/24 is the gateway.
 * @throws TsnetError TSNET_SUBNET for a value that cannot be served, or when no subnet is named
 */
export function parseSubnetEnv(text: string): SubnetEnv {
  const values = new Map<string, string>()
  for (const line of text.split('\n')) {
    const match = /^\s*(?:export\s+)?([A-Z0-9_]+)=(["']?)(.*?)\2\s*$/.exec(line)
    if (match?.[1] !== undefined && match[3] !== undefined && match[3] !== '') values.set(match[1], match[3])
  }
  const rangeSets = ['FLANNEL_SUBNET', 'FLANNEL_IPV6_SUBNET'].flatMap((key) => parseKey(key, values.get(key)))
  if (rangeSets.length === 0) throw refuse('subnet.env names neither FLANNEL_SUBNET nor FLANNEL_IPV6_SUBNET')
  const networks = ['FLANNEL_NETWORK', 'FLANNEL_IPV6_NETWORK'].flatMap((key) => parseNetworks(key, values.get(key)))
  const mtu = values.get('FLANNEL_MTU')
  if (mtu !== undefined && !/^[1-9]\d{1,5}$/.test(mtu)) throw refuse(`FLANNEL_MTU ${JSON.stringify(mtu)} is not a number of bytes`)
  const ipMasq = values.get('FLANNEL_IPMASQ')
  if (ipMasq !== undefined && ipMasq !== 'true' && ipMasq !== 'false')
    throw refuse(`FLANNEL_IPMASQ ${JSON.stringify(ipMasq)} is neither true nor false`)
  return { rangeSets, networks, ...(mtu === undefined ? {} : { mtu: Number(mtu) }), ...(ipMasq === undefined ? {} : { ipMasq: ipMasq === 'true' }) }
}

function parseKey(key: string, value: string | undefined): readonly RangeSet[] {
  if (value === undefined) return []
  const prefix = parsePrefix(value)
  if (prefix === undefined) throw refuse(`${key} ${JSON.stringify(value)} is not of the form address/length`)
  const address = networkAddress(prefix)
  const subnet = parseSubnet(formatPrefix({ address, prefixLength: prefix.prefixLength }))
  const hosts = hostSpan(subnet)
  const gateway = address.value === prefix.address.value ? hosts.first : prefix.address
  return [[requireRange(subnet, hosts, gateway, [])]]
}

function parseNetworks(key: string, value: string | undefined): readonly IpPrefix[] {
  if (value === undefined) return []
  return value.split(',').map((text) => {
    const prefix = parsePrefix(text.trim())
    if (prefix === undefined) throw refuse(`${key} ${JSON.stringify(value)} is not of the form address/length`)
    return prefix
  })
}
