/** Routing by source in a container: a rule for each address of an interface, and a table with the interface's routes. */
import { unlessErrno } from '../error.ts'
import {
  addFibRule,
  addRoute,
  listFibRules,
  listRoutes,
  type ObservedFibRule,
  type ObservedRoute,
  removeFibRule,
  removeRoute,
  replaceRoute,
} from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { UndoStack } from '../plan/undo.ts'
import { AF_INET, AF_INET6, RT_SCOPE_UNIVERSE } from '../wire/address.ts'
import { FR_ACT_TO_TBL } from '../wire/fib-rule.ts'
import { addressFromBytes, addressToBytes, containsAddress, formatAddress, type IpAddress, type IpPrefix } from '../wire/ip-address.ts'
import { RT_TABLE_MAIN, RTN_UNICAST } from '../wire/route.ts'

/** Tables that nobody uses are looked for from here on, as the reference plugin does. */
const FIRST_TABLE = 100
/** What RouteAdd of Go's netlink package writes. @see include/uapi/linux/rtnetlink.h, RTPROT_BOOT */
const RTPROT_BOOT = 3
const FAMILIES = [AF_INET, AF_INET6]

export interface SourceAddress {
  readonly prefix: IpPrefix
  readonly gateway?: IpAddress
}

export interface SourceTablesOptions {
  readonly addresses: readonly SourceAddress[]
  /** The one table to use; absent: one for each address, the first that nobody uses. */
  readonly table?: number
  /** Whether routes name the address that they are for. */
  readonly addSourceHints: boolean
}

/**
 * Moves the routes of the link out of the main table: what comes from one of the addresses goes by them, everything else as if there were no such link.
 * @param rt A socket in the container's namespace
 * @param index Of the link
 * @see containernetworking/plugins plugins/meta/sbr/main.go, doRoutes
 */
export function routeBySource(rt: NetlinkSocket, index: number, { addresses, table, addSourceHints }: SourceTablesOptions, undo: UndoStack): void {
  const all = FAMILIES.flatMap((family) => listRoutes(rt, family))
  const own = all.filter((route) => route.table === RT_TABLE_MAIN && route.attributes.outputIndex === index)
  const used = new Set([...all.map((route) => route.table), ...FAMILIES.flatMap((family) => listFibRules(rt, family)).map((rule) => rule.table)])
  for (const { prefix, gateway } of addresses) {
    const chosen = table ?? firstUnused(used)
    used.add(chosen)
    const rule = sourceRule(prefix.address, chosen)
    addFibRule(rt, `add the policy rule for ${formatAddress(prefix.address)}`, rule)
    undo.push('policy rule', () => removeFibRule(rt, 'delete the policy rule', rule))
    const hint = addSourceHints ? { preferredSource: addressToBytes(prefix.address) } : {}
    const routes = own.filter((route) => isFor(route, prefix)).map((route) => inTable(route, chosen, hint))
    const byGateway = gateway === undefined ? [] : [defaultRoute(index, gateway, chosen, hint)]
    for (const route of [...byGateway, ...routes]) {
      // Before it is made: a kill of the thread in between is nobody's, but a refusal is.
      undo.push('route', () => removeRoute(rt, 'delete a route', route))
      replaceRoute(rt, `add a route to table ${chosen}`, route)
    }
  }
  for (const route of own) {
    undo.push('route of the main table', () => unlessErrno(['EEXIST'], () => addRoute(rt, 'add a route', inTable(route, RT_TABLE_MAIN, {}))))
    removeRoute(rt, 'delete a route of the main table', route)
  }
}

/** @returns Whether there was a rule for the address in whatever table. */
export function forgetSource(rt: NetlinkSocket, address: IpAddress): boolean {
  const rules = rulesFor(rt, address)
  for (const rule of rules) removeFibRule(rt, `delete the policy rule for ${formatAddress(address)}`, rule)
  return rules.length > 0
}

/** @returns What is missing for traffic from these addresses, in words. */
export function missingSources(rt: NetlinkSocket, index: number, { addresses, table }: SourceTablesOptions): readonly string[] {
  const routes = FAMILIES.flatMap((family) => listRoutes(rt, family)).filter((route) => route.attributes.outputIndex === index)
  return addresses.flatMap(({ prefix }) => {
    const tables = rulesFor(rt, prefix.address).map((rule) => rule.table)
    const text = formatAddress(prefix.address)
    const fitting = table === undefined ? tables : tables.filter((one) => one === table)
    if (fitting.length === 0) return [`the policy rule for ${text} is missing`]
    const family = prefix.address.family === 4 ? AF_INET : AF_INET6
    const hasRoute = routes.some((route) => route.family === family && fitting.includes(route.table))
    return hasRoute ? [] : [`table ${fitting.join(', ')} for ${text} has no route out of the interface`]
  })
}

function firstUnused(used: ReadonlySet<number>): number {
  let table = FIRST_TABLE
  while (used.has(table)) table++
  return table
}

function rulesFor(rt: NetlinkSocket, address: IpAddress): readonly ObservedFibRule[] {
  const wanted = formatAddress(address)
  return listFibRules(rt, address.family === 4 ? AF_INET : AF_INET6).filter(({ attributes, table, sourceLength }) => {
    const whole = sourceLength === (address.family === 4 ? 32 : 128)
    return whole && table !== RT_TABLE_MAIN && attributes.source !== undefined && formatAddress(addressFromBytes(attributes.source)) === wanted
  })
}

function sourceRule(address: IpAddress, table: number): ObservedFibRule {
  const [family, sourceLength] = address.family === 4 ? ([AF_INET, 32] as const) : ([AF_INET6, 128] as const)
  return { family, sourceLength, table, action: FR_ACT_TO_TBL, attributes: { source: addressToBytes(address), table } }
}

/** Routes with neither gateway nor source are everybody's; others belong to the address in whose subnet they lie. */
function isFor({ family, attributes }: ObservedRoute, prefix: IpPrefix): boolean {
  if ((family === AF_INET) !== (prefix.address.family === 4)) return false
  const { gateway, preferredSource } = attributes
  const hints = [gateway, preferredSource].flatMap((bytes) => (bytes === undefined ? [] : [addressFromBytes(bytes)]))
  return hints.length === 0 || hints.some((hint) => containsAddress(prefix, hint))
}

function inTable(route: ObservedRoute, table: number, hint: { readonly preferredSource?: Uint8Array }): ObservedRoute {
  return { ...route, table, attributes: { ...route.attributes, ...hint, table } }
}

function defaultRoute(index: number, gateway: IpAddress, table: number, hint: object): ObservedRoute {
  const attributes = { outputIndex: index, gateway: addressToBytes(gateway), ...hint, table }
  const family = gateway.family === 4 ? AF_INET : AF_INET6
  return { family, destinationLength: 0, table, protocol: RTPROT_BOOT, scope: RT_SCOPE_UNIVERSE, type: RTN_UNICAST, attributes }
}
