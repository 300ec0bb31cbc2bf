/** Leases as the kernel knows them, for attachments whose record is lost: the host's end of a veth pair names its owner. */
import { readdirSync } from 'node:fs'
import { isErrno } from '../error.ts'
import { type HeldLease, leaseOwner } from '../ipam/lease.ts'
import { listAddresses, listLinks, type ObservedLink, openRtnetlink } from '../netlink/rtnetlink.ts'
import { type Netns, openNetnsIfThere, openOwnNetns, within } from '../sys/netns.ts'
import { addressFromBytes } from '../wire/ip-address.ts'
import { aliasOf } from './desired.ts'
import type { Owner } from './owner.ts'

const NAMED = '/run/netns'
/** RT_SCOPE_UNIVERSE, include/uapi/linux/rtnetlink.h */
const GLOBAL = 0

/** @returns What is attached to the network, by the aliases of the links: whether or not there are records. */
export function listLiveOwners(network: string): readonly Owner[] {
  using host = openRtnetlink()
  return listLinks(host).flatMap((link) => ownerOf(link, network) ?? [])
}

/** @param owners Those whose leases are wanted. @returns The addresses that their interfaces have in whatever namespace they are. */
export function liveLeases(owners: readonly Owner[]): readonly HeldLease[] {
  if (owners.length === 0) return []
  using host = openRtnetlink()
  const byAlias = new Map(owners.map((owner) => [aliasOf(owner), owner]))
  const ends = listLinks(host).flatMap((link) => {
    const owner = byAlias.get(link.ifalias ?? '')
    return owner === undefined ? [] : [{ link, owner }]
  })
  const leases: HeldLease[] = []
  visitNamespaces((netns) => leases.push(...leasesIn(netns, ends)))
  return leases
}

interface HostEnd {
  readonly link: ObservedLink
  readonly owner: Owner
}

function leasesIn(netns: Netns, ends: readonly HostEnd[]): readonly HeldLease[] {
  using container = within(netns, openRtnetlink)
  return listLinks(container).flatMap((link) => {
    const end = ends.find((one) => one.owner.ifname === link.ifname && one.link.index === link.linkIndex && one.link.linkIndex === link.index)
    if (end === undefined) return []
    const owner = leaseOwner(end.owner.containerID, end.owner.ifname)
    const own = listAddresses(container, link.index).filter(({ scope }) => scope === GLOBAL)
    return own.flatMap(({ address, local = address }) => (local === undefined ? [] : [{ address: addressFromBytes(local), owner }]))
  })
}

/** Each once, by the names of `ip netns` and by all processes; not our own. */
function visitNamespaces(visit: (netns: Netns) => void): void {
  using own = openOwnNetns()
  const seen = new Set([own.inode])
  const paths = [
    ...namesIn(NAMED).map((name) => `${NAMED}/${name}`),
    ...namesIn('/proc').flatMap((name) => (/^\d+$/.test(name) ? [`/proc/${name}/ns/net`] : [])),
  ]
  for (const path of paths) {
    using netns = openNetnsIfThere(path)
    if (netns === undefined || seen.has(netns.inode)) continue
    seen.add(netns.inode)
    visit(netns)
  }
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  }
}

/** An alias that was cut short names nobody. */
function ownerOf(link: ObservedLink, network: string): Owner | undefined {
  const [, containerID, ifname] =
    /^([^/:]+):([^/:]+)$/.exec(link.ifalias?.startsWith(`tsnet ${network}/`) ? link.ifalias.slice(`tsnet ${network}/`.length) : '') ?? []
  const owner = containerID === undefined || ifname === undefined ? undefined : { network, containerID, ifname }
  return owner !== undefined && link.linkinfo?.kind === 'veth' && aliasOf(owner) === link.ifalias ? owner : undefined
}
