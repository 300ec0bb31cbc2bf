/** What the keys isGateway and isDefaultGateway add to what IPAM says. Pure. */
import type { Result, ResultIp, ResultRoute } from '../cni/result.ts'
import { formatAddress, type IpPrefix, networkAddress, parseAddress, parsePrefix } from '../wire/ip-address.ts'
import type { BridgeConfig } from './bridge-config.ts'

const FAMILIES = [4, 6] as const

/**
 * @param result Of IPAM.
 * @returns The same with a gateway for each address, the first of its subnet where IPAM named none, and with a default route for each family that
 * has none: also one that names no gateway is one.
 */
export function withGateways(result: Result, { isGateway, isDefaultGateway }: Pick<BridgeConfig, 'isGateway' | 'isDefaultGateway'>): Result {
  if (!isGateway) return result
  const ips = result.ips.map((ip) => ({ ...ip, gateway: ip.gateway ?? firstAddress(ip) }))
  return { ...result, ips, routes: [...result.routes, ...(isDefaultGateway ? defaultRoutes(ips, result.routes) : [])] }
}

/** @returns What the host has to have, each once: the gateways with the subnets' lengths. */
export function gatewayPrefixes({ ips }: Result): readonly IpPrefix[] {
  const prefixes = ips.flatMap(({ address, gateway = '' }) => {
    const prefix = parsePrefix(address)
    const parsed = parseAddress(gateway)
    return prefix === undefined || parsed === undefined ? [] : [{ address: parsed, prefixLength: prefix.prefixLength }]
  })
  return [...new Map(prefixes.map((prefix) => [`${prefix.address.family} ${prefix.address.value} ${prefix.prefixLength}`, prefix])).values()]
}

function defaultRoutes(ips: readonly Required<Pick<ResultIp, 'gateway'>>[], routes: readonly ResultRoute[]): readonly ResultRoute[] {
  return FAMILIES.flatMap((family) => {
    const isDefault = ({ dst }: ResultRoute) => {
      const prefix = parsePrefix(dst)
      return prefix?.address.family === family && prefix.prefixLength === 0
    }
    const gw = ips.find(({ gateway }) => parseAddress(gateway)?.family === family)?.gateway
    return gw === undefined || routes.some(isDefault) ? [] : [{ dst: family === 4 ? '0.0.0.0/0' : '::/0', gw }]
  })
}

function firstAddress({ address }: ResultIp): string {
  const prefix = parsePrefix(address)
  if (prefix === undefined) return address
  const { family, value } = networkAddress(prefix)
  return formatAddress({ family, value: value + 1n })
}
