/** An interface that is made for a container: under a passing name, inside its namespace from the first moment, then named. */
import { interfaceTaken } from '../bridge/veth.ts'
import { CNI_CODE, isErrno, KernelError, TsnetError } from '../error.ts'
import { changeLink, createLink, deleteLink, findLink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { hostVethName, type Owner } from '../plan/owner.ts'
import type { UndoStack } from '../plan/undo.ts'
import type { Netns } from '../sys/netns.ts'
import { within } from '../sys/netns.ts'
import { ensureSysctl } from '../sys/sysctl.ts'
import type { Link } from '../wire/link.ts'

/** Where an ADD works. */
export interface DeviceSite {
  readonly owner: Owner
  /** A socket in the namespace that tsnet runs in. */
  readonly host: NetlinkSocket
  /** A socket in the container's. */
  readonly container: NetlinkSocket
  readonly netns: Netns
  readonly undo: UndoStack
}

/**
 * Kernels look for the new name in the namespace where the request is made, too, where "eth0" is another interface.
 * @returns The name that an owner's interface has until it gets its own
 */
export function passingName(owner: Owner): string {
  return `tst${hostVethName(owner).slice(3)}`
}

/**
 * Creates the interface by a netlink request.
 * @param link Without a name.
 * @param inContainer Whether the link below it is the container's own.
 * @throws TsnetError TSNET_INTERFACE_TAKEN, CNI code 101; TSNET_NO_LINK_KIND, CNI code 50; KernelError
 */
export function createDevice(site: DeviceSite, link: Link, inContainer: boolean): void {
  const { host, container, netns, owner } = site
  const kind = link.linkinfo?.kind ?? ''
  const place = inContainer ? {} : { netNsFd: netns.fd }
  const operation = `create the ${kind} interface "${owner.ifname}"`
  insert(site, () =>
    unlessUnknown(kind, () => createLink(inContainer ? container : host, operation, { ifname: passingName(owner), ...link, ...place })),
  )
}

/** Names what `create` makes under the passing name. @throws TsnetError TSNET_INTERFACE_TAKEN, CNI code 101 */
export function insert({ container, owner, undo }: DeviceSite, create: () => void): void {
  const { ifname } = owner
  const passing = passingName(owner)
  if (findLink(container, ifname) !== undefined) throw interfaceTaken(ifname)
  undo.push(`interface "${ifname}"`, () => deleteLink(container, passing))
  create()
  const index = findLink(container, passing)?.index
  if (index === undefined) throw new TsnetError('TSNET_LINK', `Cannot find the interface "${ifname}": it has vanished`)
  undo.push(`interface "${ifname}"`, () => deleteLink(container, index))
  try {
    changeLink(container, `name the interface "${ifname}"`, { id: index, link: { ifname } })
  } catch (error) {
    throw isErrno(error, 'EEXIST') ? interfaceTaken(ifname, error) : error
  }
}

/** Tells the neighbours of an address as soon as the interface comes up. */
export function announceAddresses(netns: Netns, ifname: string): void {
  within(netns, () => {
    ensureSysctl(`net/ipv4/conf/${ifname}/arp_notify`, '1')
    ensureSysctl(`net/ipv6/conf/${ifname}/ndisc_notify`, '1')
  })
}

/**
 * Deletes the interface and what a killed ADD has left under the passing name; an interface of another kind is another plugin's.
 * @returns Whether there was one
 */
export function deleteDevice(container: NetlinkSocket, owner: Owner, kind: string): boolean {
  const found = [owner.ifname, passingName(owner)].flatMap((name) => findLink(container, name) ?? [])
  const own = found.filter(({ linkinfo }) => linkinfo?.kind === kind)
  return own.map(({ index }) => deleteLink(container, index)).includes(true)
}

/**
 * Asks the kernel for an interface that it must refuse, with an address of one byte: one that knows the kind says so after it has loaded its module.
 * @throws TsnetError TSNET_NO_LINK_KIND, CNI code 50
 */
export function ensureLinkKind(rt: NetlinkSocket, kind: string): void {
  const link = { ifname: 'tst-probe', address: new Uint8Array(1), linkinfo: { kind } }
  unlessUnknown(kind, () => {
    try {
      createLink(rt, `create a ${kind} interface`, link)
      deleteLink(rt, link.ifname)
    } catch (error) {
      if (!isErrno(error, 'EINVAL', 'EADDRNOTAVAIL', 'ENODEV')) throw error
    }
  })
}

function unlessUnknown(kind: string, create: () => void): void {
  try {
    create()
  } catch (error) {
    if (!(error instanceof KernelError && isErrno(error, 'EOPNOTSUPP', 'ENOTSUP'))) throw error
    throw new TsnetError('TSNET_NO_LINK_KIND', `Cannot create an interface of kind "${kind}": the kernel has none`, {
      cniCode: CNI_CODE.notAvailable,
      hint: `modprobe ${kind}, or a kernel that is built with it`,
      cause: error,
    })
  }
}
