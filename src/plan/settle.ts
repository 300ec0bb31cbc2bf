/**
 * Settles who of a container's interfaces has the default route, and which of them answer by a table of their own. It is done
 * when an interface comes to others, and when one goes: it concerns those that stay, whichever network they are of.
 */
import { join } from 'node:path'
import { deleteRoute, ensureRoute, type RouteOptions, routesOf } from '../bridge/route.ts'
import { deleteSourceRule, ensureSourceRule, sourceRulesOf } from '../bridge/source-rule.ts'
import { isErrno } from '../error.ts'
import { listAddresses, listLinks, openRtnetlink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { type FileLock, lockFile } from '../sys/lock.ts'
import { findNetns, netnsInode, within } from '../sys/netns.ts'
import { makeFolder } from '../sys/state-file.ts'
import { addressFromBytes, formatAddress } from '../wire/ip-address.ts'
import type { AttachmentRecord } from './record.ts'
import { siblingsOf } from './siblings.ts'
import { hasYielded, isRoutedBySource, type SourceRouting, sourceRoutingOf, yieldedRoutes } from './source-routing.ts'
import type { StateFolder } from './state-folder.ts'

/** What a route cannot be made for: the interface is down, moved or gone. Whose it is, CHECK tells that it lacks the route. */
const UNUSABLE = ['ENETDOWN', 'ENETUNREACH', 'EHOSTUNREACH', 'ENODEV', 'EINVAL']

/** Held, always after a network's and the host's, while the interfaces of one container are settled: they are of several networks. */
export function lockContainers(state: StateFolder): FileLock {
  makeFolder(state.root)
  return lockFile(join(state.root, 'containers'))
}

/** @returns Whether the container has another interface than its loopback and this one. */
export function hasCompany(container: NetlinkSocket, ifname: string): boolean {
  return listLinks(container).some((link) => link.index !== 1 && link.ifname !== ifname)
}

/** @param record With its table; its interface is there, complete but for its answers. @throws KernelError when they cannot be routed */
export function settleComing(record: AttachmentRecord, container: NetlinkSocket, state: StateFolder): void {
  using _lock = lockContainers(state)
  settle(container, [record, ...siblingsOf(state, record)])
}

/** The interface is gone. In a namespace that lives on, rules with its addresses would outlive it. */
export function settleGoing(record: AttachmentRecord, state: StateFolder): void {
  const concerned = record.state === 'adding' || hasYielded(record)
  // The namespace of a process that has ended is found by a search through all processes: only where something may be left.
  if (!concerned && netnsInode(record.netns.path) !== record.netns.inode) return
  using netns = findNetns(record.netns)
  if (netns === undefined) return
  using container = within(netns, openRtnetlink)
  if (!concerned && !hasCompany(container, record.ifname)) return
  using _lock = lockContainers(state)
  settle(container, siblingsOf(state, record))
}

interface Place {
  readonly container: NetlinkSocket
  /** Index of the interface. */
  readonly index: number
  readonly record: AttachmentRecord
}

function settle(container: NetlinkSocket, records: readonly AttachmentRecord[]): void {
  const addresses = addressesIn(container)
  const rules = sourceRulesOf(container)
  for (const rule of rules) if (!addresses.has(formatAddress(rule.source))) deleteSourceRule(container, rule)
  const links = new Map(listLinks(container).map(({ ifname, index }) => [ifname, index]))
  const places = [...records]
    .sort((a, b) => a.created.localeCompare(b.created))
    .flatMap((record) => {
      const index = links.get(record.ifname)
      return index === undefined ? [] : [{ container, index, record }]
    })
  for (const place of places) takeOver(place, records)
  for (const place of places) {
    const routing = sourceRoutingOf(place.record)
    if (routing === undefined) continue
    const living = { ...routing, sources: routing.sources.filter((source) => addresses.has(formatAddress(source))) }
    const others = records.filter((record) => record !== place.record)
    if (isRoutedBySource(place.record, others)) routeBySource(place, living)
    else routeByMain(place, living)
  }
}

/** The first that is left gets the default routes of one that has gone. */
function takeOver(place: Place, records: readonly AttachmentRecord[]): void {
  const others = records.filter((record) => record !== place.record)
  const wished = yieldedRoutes(place.record, others)
  if (wished.length === 0) return
  const standing = routesOf(place.container, 0).filter(({ destination }) => destination.prefixLength === 0)
  const free = wished.filter(({ destination }) => !standing.some((other) => other.destination.address.family === destination.address.family))
  for (const route of free) ensureUsable(place, route)
}

/** Routes first: a rule that leads to an empty table leads on to the main one. */
function routeBySource(place: Place, { table, sources, routes }: SourceRouting): void {
  for (const route of routes) ensureUsable(place, route)
  for (const source of sources) ensureSourceRule(place.container, { source, table })
}

function routeByMain({ container, index }: Place, { table, sources }: SourceRouting): void {
  for (const source of sources) deleteSourceRule(container, { source, table })
  for (const route of routesOf(container, index, table)) deleteRoute(container, index, route)
}

function ensureUsable({ container, index }: Place, route: RouteOptions): void {
  try {
    ensureRoute(container, index, route)
  } catch (error) {
    if (!isErrno(error, ...UNUSABLE)) throw error
  }
}

function addressesIn(container: NetlinkSocket): ReadonlySet<string> {
  const all = listAddresses(container, 0).flatMap(({ local, address }) => local ?? address ?? [])
  return new Set(all.map((bytes) => formatAddress(addressFromBytes(bytes))))
}
