/**
 * An interface of the host's that a container has for a while. Its alias says what the host calls it: by that it finds home when
 * nothing else is left, and by that the reference plugin brings home what tsnet has lent, and the other way round.
 */
import { interfaceTaken } from '../bridge/veth.ts'
import { quote } from '../cni/json.ts'
import { CNI_CODE, TsnetError, unlessErrno } from '../error.ts'
import {
  addAddress,
  addRoute,
  changeLink,
  findLink,
  listAddresses,
  listLinks,
  listRoutes,
  type ObservedLink,
  requireLink,
} from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { Owner } from '../plan/owner.ts'
import { openOwnNetns } from '../sys/netns.ts'
import { AF_INET, AF_INET6, RT_SCOPE_LINK } from '../wire/address.ts'
import { IFF_UP } from '../wire/link.ts'
import { RTN_UNICAST, RTPROT_KERNEL } from '../wire/route.ts'
import type { DeviceSite } from './container-device.ts'

/** What the host's interface was like before it was lent. */
export interface LentDevice {
  /** The host's name of it. */
  readonly name: string
  /** Its alias, which it gets back. */
  readonly alias: string
  /** The kernel's kind, empty for a physical one: what a container puts in its place is most often of another. Absent where tsnet did not lend it. */
  readonly kind?: string
  readonly up: boolean
}

/** @returns What is to be remembered of an interface before it is lent. */
export function describeDevice({ ifname = '', ifalias = '', linkinfo, flags }: ObservedLink): LentDevice {
  return { name: ifname, alias: ifalias, kind: linkinfo?.kind ?? '', up: (flags & IFF_UP) !== 0 }
}

/**
 * Moves the interface into the container and names it there, in one request: the kernel takes the new name where the old one
 * is in use already, so that no namespace has to stand between.
 * @throws TsnetError TSNET_INTERFACE_TAKEN, CNI code 101; KernelError
 * @see net/core/rtnetlink.c, do_setlink; net/core/dev.c, __dev_change_net_namespace
 */
export function lendDevice({ host, container, netns, owner, undo }: DeviceSite, device: LentDevice): void {
  const { ifname } = owner
  const { index } = requireLink(host, device.name)
  if (findLink(container, ifname) !== undefined) throw interfaceTaken(ifname)
  const putBack = rememberSettings(host, index, device)
  undo.push(`interface "${device.name}"`, () => {
    returnDevice({ host, container, owner }, device)
    putBack()
  })
  changeLink(host, `mark the interface "${device.name}"`, { id: index, link: { ifalias: device.name } })
  changeLink(host, `move the interface "${device.name}" to "${netns.path}" as "${ifname}"`, { id: index, link: { netNsFd: netns.fd, ifname } })
}

interface Lent {
  readonly host: NetlinkSocket
  /** Absent when the namespace is gone: a virtual interface died with it, a physical one is back with the host under some name. */
  readonly container?: NetlinkSocket
  readonly owner: Owner
}

/**
 * Brings the interface home, down, under its name and with its alias of before.
 * @param device Absent when nobody has remembered it: the alias says what it was called.
 * @throws TsnetError TSNET_INTERFACE_TAKEN, CNI code 101, when the host has another one of that name by now: then it stays where it is
 */
export function returnDevice({ host, container, owner }: Lent, device?: LentDevice): void {
  const lent = container && findLent(container, owner.ifname, device)
  if (container === undefined || lent === undefined) return restoreStray(host, device)
  const name = device?.name ?? lent.ifalias ?? ''
  // Also where it cannot go home: its addresses are no longer its own.
  changeLink(container, `set "${lent.ifname}" down`, { id: lent.index, up: false })
  refuseTaken(host, name)
  using home = openOwnNetns()
  changeLink(container, `move the interface "${lent.ifname}" back to the host as "${name}"`, {
    id: lent.index,
    link: { netNsFd: home.fd, ifname: name, ifalias: device?.alias ?? '' },
  })
}

/** What the container calls it now counts less than the alias, but the alias is the container's to change, too. */
function findLent(container: NetlinkSocket, ifname: string, device: LentDevice | undefined): ObservedLink | undefined {
  const named = findLink(container, ifname)
  if (device === undefined) return isInterfaceName(named?.ifalias) ? named : undefined
  if (named !== undefined && kindOf(named) === device.kind) return named
  return listLinks(container).find((link) => isMarked(link, device))
}

/** The kernel gives a physical interface back to the host when the namespace dies, as "dev7" if its name there is taken. */
function restoreStray(host: NetlinkSocket, device: LentDevice | undefined): void {
  const stray = device && listLinks(host).find((link) => isMarked(link, device))
  if (device === undefined || stray === undefined) return
  const { name, alias } = device
  const home = stray.ifname === name
  if (home && device.kind === undefined) return
  if (!home) refuseTaken(host, name)
  changeLink(host, `give the interface "${stray.ifname}" its name "${name}" back`, {
    id: stray.index,
    ...(!home && { up: false }),
    link: { ...(!home && { ifname: name }), ifalias: alias },
  })
}

function isMarked(link: ObservedLink, { name, kind = kindOf(link) }: LentDevice): boolean {
  return link.ifalias === name && kindOf(link) === kind
}

function kindOf({ linkinfo }: ObservedLink): string {
  return linkinfo?.kind ?? ''
}

function refuseTaken(host: NetlinkSocket, name: string): void {
  if (findLink(host, name) === undefined) return
  throw new TsnetError('TSNET_INTERFACE_TAKEN', `Cannot bring the interface ${quote(name)} home: the host has another one of that name`, {
    cniCode: CNI_CODE.interfaceTaken,
    hint: 'Rename or delete that one, then delete the attachment again',
  })
}

/** Moving takes an interface down, and with that its addresses and routes. @returns How to make them again */
function rememberSettings(host: NetlinkSocket, index: number, { name, up }: LentDevice): () => void {
  const addresses = listAddresses(host, index).filter(({ scope }) => scope !== RT_SCOPE_LINK)
  const routes = [AF_INET, AF_INET6]
    .flatMap((family) => listRoutes(host, family))
    .filter(({ attributes, type, protocol }) => attributes.outputIndex === index && type === RTN_UNICAST && protocol !== RTPROT_KERNEL)
  return () => {
    const back = findLink(host, name)?.index
    if (back === undefined || !up) return
    changeLink(host, `set "${name}" up`, { id: back, up: true })
    for (const address of addresses) unlessErrno(['EEXIST'], () => addAddress(host, `give "${name}" an address back`, { ...address, index: back }))
    for (const route of routes) {
      unlessErrno(['EEXIST'], () =>
        addRoute(host, `give "${name}" a route back`, { ...route, attributes: { ...route.attributes, outputIndex: back } }),
      )
    }
  }
}

/** The kernel fills in what stands for "%d", and takes no more than 15 bytes. @see net/core/dev.c, dev_valid_name */
function isInterfaceName(text = ''): boolean {
  return text !== '' && Buffer.byteLength(text) <= 15 && !/[\s/:%\ufffd]|\p{Cc}/u.test(text) && text !== '.' && text !== '..'
}
