/** The verbs of rtnetlink on links, addresses, routes and policy rules: kernel words, one request each. @see rtnetlink(7) */
import { TsnetError, unlessErrno } from '../error.ts'
import { ENETUNREACH, ENODEV } from '../sys/errno.ts'
import { type Address, type AddressHeader, decodeAddress, encodeAddress, RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR } from '../wire/address.ts'
import type { ByteWriter } from '../wire/byte-writer.ts'
import { decodeFibRule, encodeFibRule, type FibRule, type FibRuleHeader, RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE } from '../wire/fib-rule.ts'
import {
  decodeLink,
  encodeLink,
  IFF_ALLMULTI,
  IFF_PROMISC,
  IFF_UP,
  type Link,
  type LinkHeader,
  RTEXT_FILTER_SKIP_STATS,
  RTM_DELLINK,
  RTM_GETLINK,
  RTM_NEWLINK,
} from '../wire/link.ts'
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from '../wire/netlink-message.ts'
import { decodeNetnsId, encodeNetnsId, NETNSA_NSID_NOT_ASSIGNED, RTM_GETNSID } from '../wire/netns-id.ts'
import { decodeRoute, encodeRoute, type Route, type RouteHeader, RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE, RTN_LOCAL } from '../wire/route.ts'
import { NETLINK_ROUTE, NetlinkSocket, type Request } from './socket.ts'

export type ObservedLink = LinkHeader & Link
export type ObservedAddress = AddressHeader & Address
export type ObservedRoute = ReturnType<typeof decodeRoute>
export type ObservedFibRule = FibRuleHeader & { readonly attributes: FibRule }

export interface LinkChange {
  readonly id: LinkId
  readonly up?: boolean
  /** Whether it takes frames for whatever MAC address. */
  readonly promiscuous?: boolean
  /** Whether it takes frames for whatever multicast address. */
  readonly allMulticast?: boolean
  readonly link?: Link
}

/** How a link is named in a request: by its index or by its name. */
export type LinkId = number | string

/** An rtnetlink socket of the namespace that the thread is in. The caller owns it. */
export function openRtnetlink(): NetlinkSocket {
  return new NetlinkSocket(NETLINK_ROUTE)
}

/** @returns The link, or undefined when there is none of that name or index. */
export function findLink(rt: NetlinkSocket, id: LinkId): ObservedLink | undefined {
  const body = (w: ByteWriter) => encodeLink(w, header(id), { ...named(id), extMask: RTEXT_FILTER_SKIP_STATS })
  return rt.find({ operation: `look up the link ${quote(id)}`, type: RTM_GETLINK, body }, ENODEV, (m) => decodeLink(m.body))
}

/** @returns A link that was there a moment ago. @throws TsnetError TSNET_LINK when it is not any more */
export function requireLink(rt: NetlinkSocket, name: string): ObservedLink {
  const link = findLink(rt, name)
  if (link === undefined) throw new TsnetError('TSNET_LINK', `Cannot find the interface "${name}": it has vanished`)
  return link
}

export function listLinks(rt: NetlinkSocket): readonly ObservedLink[] {
  return rt.dump(
    { operation: 'list the links', type: RTM_GETLINK, body: (w) => encodeLink(w, header(0), { extMask: RTEXT_FILTER_SKIP_STATS }) },
    (m) => decodeLink(m.body),
  )
}

/** @param flags IFF_UP and the like, to be set at once. @throws KernelError EEXIST when the name is taken */
export function createLink(rt: NetlinkSocket, operation: string, link: Link, flags = 0): void {
  rt.execute({ operation, type: RTM_NEWLINK, flags: NLM_F_CREATE | NLM_F_EXCL, body: (w) => encodeLink(w, { index: 0, flags, change: flags }, link) })
}

export function changeLink(rt: NetlinkSocket, operation: string, change: LinkChange): void {
  rt.execute(linkChange(operation, change))
}

/** RTM_NEWLINK without CREATE: RTM_SETLINK accepts bridge port options and ignores them. */
export function linkChange(operation: string, change: LinkChange): Request {
  const wishes = [
    [change.up, IFF_UP],
    [change.promiscuous, IFF_PROMISC],
    [change.allMulticast, IFF_ALLMULTI],
  ] as const
  const bits = (wanted: (wish: boolean | undefined) => boolean) => wishes.reduce((sum, [wish, bit]) => (wanted(wish) ? sum | bit : sum), 0)
  const flags = { flags: bits((wish) => wish === true), change: bits((wish) => wish !== undefined) }
  return {
    operation,
    type: RTM_NEWLINK,
    body: (w) => encodeLink(w, { ...header(change.id), ...flags }, { ...named(change.id), ...change.link }),
  }
}

/** @returns Whether there was such a link. */
export function deleteLink(rt: NetlinkSocket, id: LinkId): boolean {
  return unlessErrno(['ENODEV'], () => rt.execute(deletionOf(id)))
}

/** Deletes links together, as {@link prepareDeletion} says. One that is gone already is no error. */
export function deleteLinks(rt: NetlinkSocket, indexes: readonly number[]): void {
  if (indexes.length > 0) rt.execute(prepareDeletion(rt, indexes), ENODEV)
}

/**
 * @returns What deletes the links, at least one; several by a group that they alone are put into: the kernel waits once for
 *   all of them, where one after the other each costs a wait of its own
 */
export function prepareDeletion(rt: NetlinkSocket, indexes: readonly number[]): Request {
  if (indexes.length === 1) return deletionOf(indexes[0] as number)
  const group = unusedGroup(rt)
  // One may vanish meanwhile, with its container's namespace.
  for (const index of indexes) unlessErrno(['ENODEV'], () => changeLink(rt, `group the link with index ${index}`, { id: index, link: { group } }))
  return { operation: 'delete links by group', type: RTM_DELLINK, body: (w) => encodeLink(w, header(0), { group }) }
}

function deletionOf(id: LinkId): Request {
  return { operation: `delete the link ${quote(id)}`, type: RTM_DELLINK, body: (w) => encodeLink(w, header(id), named(id)) }
}

/** Random, so that nobody else chooses the same at the same moment, and looked up, since it deletes. */
function unusedGroup(rt: NetlinkSocket): number {
  const used = new Set(listLinks(rt).map(({ group }) => group))
  for (;;) {
    const group = 0x40000000 + Math.floor(Math.random() * 0x3fffffff)
    if (!used.has(group)) return group
  }
}

/** @param index 0 lists the addresses of all links. */
export function listAddresses(rt: NetlinkSocket, index: number): readonly ObservedAddress[] {
  const wanted = { family: 0, prefixLength: 0, flags: 0, scope: 0, index }
  const found = rt.dump({ operation: 'list the addresses', type: RTM_GETADDR, body: (w) => encodeAddress(w, wanted, {}) }, (m) =>
    decodeAddress(m.body),
  )
  return index === 0 ? found : found.filter((address) => address.index === index)
}

/** @throws KernelError EEXIST when the link has the address already */
export function addAddress(rt: NetlinkSocket, operation: string, address: ObservedAddress): void {
  const { family, prefixLength, flags, scope, index, ...attributes } = address
  rt.execute({
    operation,
    type: RTM_NEWADDR,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: (w) => encodeAddress(w, { family, prefixLength, flags, scope, index }, attributes),
  })
}

/** @returns Whether the link had the address. */
export function removeAddress(rt: NetlinkSocket, operation: string, address: ObservedAddress): boolean {
  const { family, prefixLength, flags, scope, index, ...attributes } = address
  return unlessErrno(['EADDRNOTAVAIL', 'ENODEV'], () =>
    rt.execute({ operation, type: RTM_DELADDR, body: (w) => encodeAddress(w, { family, prefixLength, flags, scope, index }, attributes) }),
  )
}

/** @param fd Of a namespace. @returns The number by which the socket's namespace knows it, as links have it; undefined for one that it does not know, such as itself */
export function findNetnsId(rt: NetlinkSocket, fd: number): number | undefined {
  const request = { operation: 'look up the number of a namespace', type: RTM_GETNSID, body: (w: ByteWriter) => encodeNetnsId(w, { fd }) }
  const id = rt.find(request, -1, (m) => decodeNetnsId(m.body).id)
  return id === NETNSA_NSID_NOT_ASSIGNED ? undefined : id
}

/** @param family AF_INET or AF_INET6. @returns The routes of every table. */
export function listRoutes(rt: NetlinkSocket, family: number): readonly ObservedRoute[] {
  const all = { family, destinationLength: 0, table: 0, protocol: 0, scope: 0, type: 0 }
  return rt.dump({ operation: 'list the routes', type: RTM_GETROUTE, body: (w) => encodeRoute(w, all, {}) }, (m) => decodeRoute(m.body))
}

/** @returns The index of the link by which the kernel would send to an address. @throws KernelError ENETUNREACH when by none */
export function outputLinkTo(rt: NetlinkSocket, family: number, destination: Uint8Array): number | undefined {
  return rt.find(routeTo(family, destination), -1, (m) => decodeRoute(m.body).attributes.outputIndex)
}

/** @returns Whether packets to an address are for this host itself. */
export function isLocalAddress(rt: NetlinkSocket, family: number, destination: Uint8Array): boolean {
  return rt.find(routeTo(family, destination), ENETUNREACH, (m) => decodeRoute(m.body).type) === RTN_LOCAL
}

/** @throws KernelError EEXIST when there is one to the same destination, ENETUNREACH when its gateway is on no link */
export function addRoute(rt: NetlinkSocket, operation: string, route: RouteHeader & { readonly attributes: Route }): void {
  rt.execute({ operation, type: RTM_NEWROUTE, flags: NLM_F_CREATE | NLM_F_EXCL, body: (w) => encodeRoute(w, route, route.attributes) })
}

/** Puts the route before others to the same destination. @throws KernelError EEXIST when there is one that is the same in everything */
export function prependRoute(rt: NetlinkSocket, operation: string, route: RouteHeader & { readonly attributes: Route }): void {
  rt.execute({ operation, type: RTM_NEWROUTE, flags: NLM_F_CREATE, body: (w) => encodeRoute(w, route, route.attributes) })
}

/** Puts the route in the place of one to the same destination, if there is one. */
export function replaceRoute(rt: NetlinkSocket, operation: string, route: RouteHeader & { readonly attributes: Route }): void {
  rt.execute({ operation, type: RTM_NEWROUTE, flags: NLM_F_CREATE | NLM_F_REPLACE, body: (w) => encodeRoute(w, route, route.attributes) })
}

/** @returns Whether there was such a route. */
export function removeRoute(rt: NetlinkSocket, operation: string, route: RouteHeader & { readonly attributes: Route }): boolean {
  return unlessErrno(['ESRCH', 'ENODEV'], () => rt.execute({ operation, type: RTM_DELROUTE, body: (w) => encodeRoute(w, route, route.attributes) }))
}

/** @param family AF_INET or AF_INET6. */
export function listFibRules(rt: NetlinkSocket, family: number): readonly ObservedFibRule[] {
  const all = { family, sourceLength: 0, table: 0, action: 0 }
  return rt.dump({ operation: 'list the policy rules', type: RTM_GETRULE, body: (w) => encodeFibRule(w, all, {}) }, (m) => decodeFibRule(m.body))
}

/** @throws KernelError EEXIST when there is the same rule */
export function addFibRule(rt: NetlinkSocket, operation: string, rule: ObservedFibRule): void {
  rt.execute({ operation, type: RTM_NEWRULE, flags: NLM_F_CREATE | NLM_F_EXCL, body: (w) => encodeFibRule(w, rule, rule.attributes) })
}

/** @returns Whether there was such a rule. */
export function removeFibRule(rt: NetlinkSocket, operation: string, rule: ObservedFibRule): boolean {
  return unlessErrno(['ENOENT'], () => rt.execute({ operation, type: RTM_DELRULE, body: (w) => encodeFibRule(w, rule, rule.attributes) }))
}

function routeTo(family: number, destination: Uint8Array): Request {
  const header = { family, destinationLength: 8 * destination.length, table: 0, protocol: 0, scope: 0, type: 0 }
  return { operation: 'look up the route', type: RTM_GETROUTE, body: (w) => encodeRoute(w, header, { destination }) }
}

function header(id: LinkId): LinkHeader {
  return { index: typeof id === 'number' ? id : 0, flags: 0, change: 0 }
}

function named(id: LinkId): Link {
  return typeof id === 'string' ? { ifname: id } : {}
}

function quote(id: LinkId): string {
  return typeof id === 'number' ? `with index ${id}` : `"${id}"`
}
