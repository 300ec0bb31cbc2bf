/** A virtual router in a container: interfaces that are its members have a routing table of their own. @see Documentation/networking/vrf.rst */
import { ensureFirstRoute, type RouteOptions, routesOf } from '../bridge/route.ts'
import { CNI_CODE, isErrno, TsnetError, unlessErrno } from '../error.ts'
import {
  addAddress,
  changeLink,
  createLink,
  deleteLink,
  findLink,
  listAddresses,
  listLinks,
  type ObservedLink,
  requireLink,
} from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { type Netns, within } from '../sys/netns.ts'
import { ensureSysctl } from '../sys/sysctl.ts'
import { AF_INET6, RT_SCOPE_UNIVERSE } from '../wire/address.ts'
import { IFF_UP } from '../wire/link.ts'

/** @returns The router, or undefined. @throws TsnetError CNI code 7 when a link of another kind has the name */
export function findVrf(rt: NetlinkSocket, name: string): ObservedLink | undefined {
  const link = findLink(rt, name)
  if (link === undefined || link.linkinfo?.kind === 'vrf') return link
  throw new TsnetError('TSNET_LINK', `Cannot use "${name}" as a VRF: it is a link of kind "${link.linkinfo?.kind ?? 'none'}"`, {
    cniCode: CNI_CODE.invalidConfig,
    hint: 'Give another name as "vrfname"',
  })
}

/**
 * @param table Its routing table; absent: the first that no other router of the namespace has.
 * @throws TsnetError TSNET_NO_LINK_KIND, CNI code 50, where the kernel has no VRF
 */
export function createVrf(rt: NetlinkSocket, name: string, table = firstUnusedTable(rt)): ObservedLink {
  try {
    createLink(rt, `create the VRF "${name}"`, { ifname: name, txQueueLength: 0, linkinfo: { kind: 'vrf', vrf: { table } } }, IFF_UP)
  } catch (cause) {
    if (!isErrno(cause, 'EOPNOTSUPP')) throw cause
    throw new TsnetError('TSNET_NO_LINK_KIND', `Cannot create the VRF "${name}": the kernel has no VRF`, {
      cniCode: CNI_CODE.notAvailable,
      hint: 'modprobe vrf, or a kernel that is built with it',
      cause,
    })
  }
  return requireLink(rt, name)
}

/**
 * Makes the interface a member. The kernel sets it down and up for it: addresses and routes that go by that are put back, the routes into the
 * router's table.
 * @throws TsnetError CNI code 7 when it is a member of something else
 */
export function enslave(rt: NetlinkSocket, netns: Netns, { name, vrf }: { readonly name: string; readonly vrf: ObservedLink }): void {
  const link = findLink(rt, name)
  if (link === undefined) throw new TsnetError('TSNET_LINK', `Cannot find the interface "${name}": the namespace has none of that name`)
  if (link.master === vrf.index) return
  if (link.master !== undefined && link.master !== 0) {
    const master = findLink(rt, link.master)?.ifname ?? String(link.master)
    throw new TsnetError('TSNET_LINK', `Interface "${name}" has already a master set: "${master}"`, { cniCode: CNI_CODE.invalidConfig })
  }
  const addresses = listAddresses(rt, link.index).filter(({ family, scope }) => family === AF_INET6 && scope === RT_SCOPE_UNIVERSE)
  const routes = routesOf(rt, link.index).filter(isGlobal)
  within(netns, () => void ensureSysctl(`net/ipv6/conf/${name}/keep_addr_on_down`, '1'))
  changeLink(rt, `make "${name}" a member of "${vrf.ifname}"`, { id: name, link: { master: vrf.index } })
  for (const address of addresses) {
    unlessErrno(['EEXIST'], () => addAddress(rt, `add an address to "${name}" again`, { ...address, flags: 0 }))
  }
  for (const route of [...routes].reverse()) ensureFirstRoute(rt, link.index, { ...route, table: tableOf(vrf) })
}

/** Takes the interface out, if it is a member. */
export function release(rt: NetlinkSocket, name: string, vrf: ObservedLink): void {
  if (findLink(rt, name)?.master === vrf.index) changeLink(rt, `take "${name}" out of "${vrf.ifname}"`, { id: name, link: { master: 0 } })
}

/** @returns Whether it was without members, and is deleted. */
export function deleteEmptyVrf(rt: NetlinkSocket, vrf: ObservedLink): boolean {
  return listLinks(rt).every(({ master }) => master !== vrf.index) && deleteLink(rt, vrf.index)
}

export function tableOf({ linkinfo }: ObservedLink): number {
  return linkinfo?.vrf?.table ?? 0
}

function firstUnusedTable(rt: NetlinkSocket): number {
  const used = new Set(listLinks(rt).map(({ linkinfo }) => linkinfo?.vrf?.table))
  let table = 1
  while (used.has(table)) table++
  return table
}

/** What the kernel makes of an address by itself comes back by itself. */
function isGlobal({ gateway, destination }: RouteOptions): boolean {
  return gateway !== undefined || destination.prefixLength === 0
}
