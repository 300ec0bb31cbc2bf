/**
 * Routing by source, for a container with several interfaces: each has a routing table of its own, so that answers leave by
 * the interface that the question came in by. Pure.
 */
import type { RouteOptions } from '../bridge/route.ts'
import { type IpAddress, networkAddress, parseAddress, parsePrefix } from '../wire/ip-address.ts'
import { RT_TABLE_MAIN } from '../wire/route.ts'
import type { AttachmentRecord, RecordedRoute } from './record.ts'

/** Added to the index of an interface, which the kernel does not use again; far from the numbers that people and other programs take. */
const FIRST_TABLE = 47_000_000

export interface SourceRouting {
  readonly table: number
  /** What packets come from that shall go by the table. */
  readonly sources: readonly IpAddress[]
  /** All that the table holds, in an order in which each gateway can be reached when its route comes. */
  readonly routes: readonly RouteOptions[]
}

/** @param index Of the interface, in the container. @returns The number of the table that is its own. */
export function tableOf(index: number): number {
  return FIRST_TABLE + index
}

/** @returns What leads answers back by this interface, or undefined when it has no address or no table. */
export function sourceRoutingOf(record: AttachmentRecord): SourceRouting | undefined {
  const { table } = record
  const prefixes = record.addresses.flatMap(({ address }) => parsePrefix(address) ?? [])
  if (table === undefined || prefixes.length === 0) return undefined
  const onLink = prefixes.map((prefix) => ({ destination: { address: networkAddress(prefix), prefixLength: prefix.prefixLength }, table }))
  const linkLocal = { address: { family: 6, value: 0xfe80n << 112n }, prefixLength: 64 } as const
  const v6 = prefixes.some(({ address }) => address.family === 6)
  return {
    table,
    sources: prefixes.map(({ address }) => address),
    routes: [...onLink, ...(v6 ? [{ destination: linkLocal, table }] : []), ...ownRoutes(record.routes, table)],
  }
}

/** @returns Whether another interface of the container had a default route when this one came. */
export function hasYielded({ routes, table }: AttachmentRecord): boolean {
  return table !== undefined && routes.some((route) => isDefault(route) && route.table === table)
}

/** @param siblings The container's other interfaces; those that are still being made will say so themselves. */
export function isRoutedBySource(record: AttachmentRecord, siblings: readonly AttachmentRecord[]): boolean {
  return hasYielded(record) || siblings.some(({ table }) => table !== undefined)
}

/**
 * @param siblings One that came first keeps its place while its link is gone: a repair makes it again.
 * @returns The default routes that the attachment would have had, had it come first: in the main table
 */
export function yieldedRoutes(record: AttachmentRecord, siblings: readonly AttachmentRecord[]): readonly RouteOptions[] {
  const { table } = record
  const kept = siblings
    .filter(({ state }) => state === 'attached')
    .flatMap(({ routes }) => routes.filter((route) => isDefault(route) && isMain(route)))
  const isKept = (family: number) => kept.some(({ dst }) => parsePrefix(dst)?.address.family === family)
  return record.routes
    .filter((route) => table !== undefined && isDefault(route) && route.table === table)
    .flatMap((route) => parseRoute(route, undefined))
    .filter(({ destination }) => !isKept(destination.address.family))
}

/**
 * @param taken Routes that another interface of the container had already.
 * @returns The routes that the attachment has: a default route that is taken goes into its own table, other ones go
 */
export function routesBeside(routes: readonly RecordedRoute[], taken: readonly RouteOptions[], table: number): readonly RecordedRoute[] {
  const key = ({ destination, priority = 0, table: other = RT_TABLE_MAIN }: RouteOptions) =>
    [destination.address.family, networkAddress(destination).value, destination.prefixLength, priority, other].join(' ')
  const keys = taken.map(key)
  return routes.flatMap((route) => {
    const [parsed] = parseRoute(route, route.table)
    if (parsed === undefined || !keys.includes(key(parsed))) return [route]
    return isDefault(route) && isMain(route) ? [{ ...route, table }] : []
  })
}

function ownRoutes(routes: readonly RecordedRoute[], table: number): readonly RouteOptions[] {
  return routes.filter((route) => isMain(route) || route.table === table).flatMap((route) => parseRoute(route, table))
}

function parseRoute({ dst, gw, table: _, ...more }: RecordedRoute, table: number | undefined): readonly RouteOptions[] {
  const destination = parsePrefix(dst)
  const gateway = gw === undefined ? undefined : parseAddress(gw)
  return destination === undefined ? [] : [{ destination, ...(gateway && { gateway }), ...more, ...(table !== undefined && { table }) }]
}

function isDefault({ dst }: RecordedRoute): boolean {
  return parsePrefix(dst)?.prefixLength === 0
}

function isMain({ table }: RecordedRoute): boolean {
  return table === undefined || table === 0 || table === RT_TABLE_MAIN
}
