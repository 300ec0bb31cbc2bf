/** CHECK of one interface in a container against what ADD has reported. */
import { macToText } from '../bridge/mac.ts'
import { routesOf } from '../bridge/route.ts'
import type { Result } from '../cni/result.ts'
import type { ObservedLink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { formatAddress, formatPrefix, networkAddress, parseAddress, parsePrefix } from '../wire/ip-address.ts'
import { type ContainerLink, missingAddresses } from './container-link.ts'

/**
 * @param expected The result of the whole chain: a later plugin may have changed the MAC address, or moved routes to another table.
 * @param observed The interface itself.
 * @returns What is not as it was reported, in words
 */
export function differences(link: ContainerLink, expected: Result, observed: ObservedLink): readonly string[] {
  const at = expected.interfaces.findIndex(({ name, sandbox }) => name === link.name && sandbox !== undefined)
  const mac = expected.interfaces[at]?.mac
  const ips = expected.ips.filter(({ interface: index }) => index === undefined || index === at)
  const present = macToText(observed.address ?? new Uint8Array())
  return [
    ...(mac !== undefined && mac.toLowerCase() !== present ? [`its MAC address is ${present}, not ${mac}`] : []),
    ...missingAddresses(link, ips).map((address) => `the address ${address} is missing`),
    ...missingRoutes(link.rt, expected.routes).map((route) => `the route to ${route} is missing`),
  ]
}

/** @returns The destinations of the routes that are in no table of the namespace. */
function missingRoutes(rt: NetlinkSocket, routes: Result['routes']): readonly string[] {
  if (routes.length === 0) return []
  const present = routesOf(rt, 0, 'any').map(({ destination, gateway }) => ({
    destination: formatPrefix(destination),
    gateway: gateway && formatAddress(gateway),
  }))
  const isThere = ({ dst, gw }: Result['routes'][number]) => {
    const gateway = gw === undefined ? undefined : canonical(gw)
    return present.some((route) => route.destination === network(dst) && (gateway === undefined || route.gateway === gateway))
  }
  return routes.filter((route) => !isThere(route)).map(({ dst }) => dst)
}

function network(text: string): string {
  const prefix = parsePrefix(text)
  return prefix === undefined ? text : formatPrefix({ ...prefix, address: networkAddress(prefix) })
}

function canonical(text: string): string {
  const address = parseAddress(text)
  return address === undefined ? text : formatAddress(address)
}
