/** Routes of an interface. */
import { unlessErrno } from '../error.ts'
import { addRoute, findLink, listRoutes, type ObservedLink, type ObservedRoute, prependRoute, removeRoute } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { AF_INET, AF_INET6, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE } from '../wire/address.ts'
import { addressFromBytes, addressToBytes, type Family, formatAddress, formatPrefix, type IpAddress, type IpPrefix } from '../wire/ip-address.ts'
import { RT_TABLE_MAIN, RTN_UNICAST, RTPROT_STATIC } from '../wire/route.ts'

export interface RouteOptions {
  readonly destination: IpPrefix
  /** Absent: the destination is on the link itself. */
  readonly gateway?: IpAddress
  /** The address that packets leave with which have none yet. */
  readonly source?: IpAddress
  readonly mtu?: number
  readonly advmss?: number
  readonly priority?: number
  /** Routing table; the main one when absent. */
  readonly table?: number
  readonly scope?: number
}

/** Adds a route out of the link. @returns false when there was one to the same destination */
export function ensureRoute(rt: NetlinkSocket, index: number, options: RouteOptions): boolean {
  return unlessErrno(['EEXIST'], () => addRoute(rt, operation(options), kernelRoute(index, options)))
}

/** Adds a route out of the link beside others to the same destination. @returns false when there was the same route */
export function ensureFirstRoute(rt: NetlinkSocket, index: number, options: RouteOptions): boolean {
  return unlessErrno(['EEXIST'], () => prependRoute(rt, operation(options), kernelRoute(index, options)))
}

/** @returns Whether there was such a route. */
export function deleteRoute(rt: NetlinkSocket, index: number, options: RouteOptions): boolean {
  return removeRoute(rt, `delete the route to ${formatPrefix(options.destination)}`, kernelRoute(index, options))
}

/**
 * @param table The main one unless another is named.
 * @returns The destinations and gateways of the routes out of the link; out of every link when index is 0
 */
export function routesOf(
  rt: NetlinkSocket,
  index: number,
  table: number | 'any' = RT_TABLE_MAIN,
): readonly (RouteOptions & { readonly outputIndex: number })[] {
  return [AF_INET, AF_INET6]
    .flatMap((family) => listRoutes(rt, family))
    .filter(
      (route) => (table === 'any' || route.table === table) && route.type === RTN_UNICAST && (index === 0 || route.attributes.outputIndex === index),
    )
    .map((route) => ({
      destination: destinationOf(route),
      ...(route.attributes.gateway && { gateway: addressFromBytes(route.attributes.gateway) }),
      ...(route.attributes.priority !== undefined && { priority: route.attributes.priority }),
      ...(route.table !== RT_TABLE_MAIN && { table: route.table }),
      outputIndex: route.attributes.outputIndex ?? 0,
    }))
}

/** @returns The MTU in bytes of the interface that the default route leaves by, or undefined without one. */
export function defaultRouteMtu(rt: NetlinkSocket): number | undefined {
  return defaultRouteLink(rt)?.mtu
}

/** @returns The interface that the default route leaves by (IPv4 before IPv6), or undefined without one. */
export function defaultRouteLink(rt: NetlinkSocket): ObservedLink | undefined {
  const defaults = routesOf(rt, 0).filter((route) => route.destination.prefixLength === 0 && route.outputIndex !== 0)
  const best = defaults.sort((a, b) => a.destination.address.family - b.destination.address.family || (a.priority ?? 0) - (b.priority ?? 0))[0]
  return best && findLink(rt, best.outputIndex)
}

function operation({ destination, gateway }: RouteOptions): string {
  return `add the route to ${formatPrefix(destination)}${gateway === undefined ? '' : ` via ${formatAddress(gateway)}`}`
}

function kernelRoute(index: number, options: RouteOptions): ObservedRoute {
  const { destination, gateway, source, mtu, advmss, priority } = options
  const metrics = { ...(mtu !== undefined && { mtu }), ...(advmss !== undefined && { advmss }) }
  return {
    family: kernelFamily(destination.address.family),
    destinationLength: destination.prefixLength,
    table: options.table ?? RT_TABLE_MAIN,
    protocol: RTPROT_STATIC,
    scope: options.scope ?? (gateway === undefined && destination.address.family === 4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE),
    type: RTN_UNICAST,
    attributes: {
      ...(destination.prefixLength > 0 && { destination: addressToBytes(destination.address) }),
      outputIndex: index,
      ...(gateway && { gateway: addressToBytes(gateway) }),
      ...(source && { preferredSource: addressToBytes(source) }),
      ...(priority !== undefined && { priority }),
      ...(Object.keys(metrics).length > 0 && { metrics }),
      ...((options.table ?? 0) > 255 && { table: options.table }),
    },
  }
}

function destinationOf(route: ObservedRoute): IpPrefix {
  const family: Family = route.family === AF_INET ? 4 : 6
  const address = route.attributes.destination === undefined ? { family, value: 0n } : addressFromBytes(route.attributes.destination)
  return { address, prefixLength: route.destinationLength }
}

function kernelFamily(family: Family): number {
  return family === 4 ? AF_INET : AF_INET6
}
