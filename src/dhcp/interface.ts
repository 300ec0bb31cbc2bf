/** The interface that a lease is for, in its container's namespace, which nothing here keeps alive: neither may be there any more. */
import { TsnetError, unlessErrno } from '../error.ts'
import { addAddress, addRoute, changeLink, findLink, listAddresses, listRoutes, openRtnetlink, removeAddress } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { findNetns, type Netns, within } from '../sys/netns.ts'
import { AF_INET, decodeAddress, encodeAddress } from '../wire/address.ts'
import { ByteWriter } from '../wire/byte-writer.ts'
import { IFF_UP } from '../wire/link.ts'
import { decodeRoute, encodeRoute } from '../wire/route.ts'
import type { DhcpLease } from './lease.ts'
import { ipv4Bytes } from './option-codec.ts'
import { PacketSocket } from './packet-socket.ts'

/** @see include/uapi/linux/rtnetlink.h: what the kernel adds by itself */
const RTPROT_KERNEL = 2
const MAC_SIZE = 6

export interface InterfaceName {
  readonly netns: Pick<Netns, 'path' | 'inode'>
  readonly ifname: string
}

/** What was taken from an interface, as the messages of rtnetlink that make it: base64. */
export interface Withdrawn {
  /** Absent: the interface had not the address. */
  readonly address?: string
  readonly routes: readonly string[]
}

export interface OpenInterface {
  readonly socket: PacketSocket
  /** Bytes. */
  readonly mtu: number
}

/**
 * Opens a packet socket on the interface.
 * @param setUp Whether to set the interface up when it is down: a plugin asks for an address before it does so itself.
 * @returns undefined when namespace or interface are gone
 * @throws TsnetError TSNET_DHCP when it is no Ethernet interface; KernelError
 */
export function openInterface(name: InterfaceName, setUp: boolean): OpenInterface | undefined {
  return inside(name, (rt, link) => {
    if (link.address?.length !== MAC_SIZE)
      throw new TsnetError('TSNET_DHCP', `Cannot ask for an address of "${name.ifname}": it is no Ethernet interface`)
    if (setUp && (link.flags & IFF_UP) === 0) changeLink(rt, `set "${name.ifname}" up`, { id: link.index, up: true })
    return { socket: new PacketSocket({ index: link.index, name: name.ifname, mac: link.address }), mtu: link.mtu ?? 0 }
  })
}

/** Takes the address away, and the routes with it. @returns What was there */
export function withdrawAddress(name: InterfaceName, { address, prefixLength }: Pick<DhcpLease, 'address' | 'prefixLength'>): Withdrawn {
  const wanted = ipv4Bytes(address)
  const found = inside(name, (rt, { index }) => {
    const own = listAddresses(rt, index).find(
      ({ family, local, ...rest }) =>
        family === AF_INET && rest.prefixLength === prefixLength && local !== undefined && Buffer.compare(local, wanted) === 0,
    )
    if (own === undefined) return undefined
    const routes = [...listRoutes(rt, AF_INET)].filter(({ protocol, attributes }) => protocol !== RTPROT_KERNEL && attributes.outputIndex === index)
    // One whose gateway is on the link comes after the route that says so.
    routes.sort((a, b) => Number(a.attributes.gateway !== undefined) - Number(b.attributes.gateway !== undefined))
    removeAddress(rt, `remove the address ${address} from "${name.ifname}"`, own)
    const { family, flags, scope, address: peer, local, broadcast } = own
    const attributes = { ...(peer && { address: peer }), ...(local && { local }), ...(broadcast && { broadcast }) }
    return {
      address: written((w) => encodeAddress(w, { family, prefixLength, flags, scope, index }, attributes)),
      routes: routes.map((route) => written((w) => encodeRoute(w, route, route.attributes))),
    }
  })
  return found ?? { routes: [] }
}

/** Puts back what was withdrawn. What somebody else has put there meanwhile stays. */
export function restoreAddress(name: InterfaceName, { address, routes }: Withdrawn): void {
  inside(name, (rt, { index }) => {
    const own = address === undefined ? undefined : decodeAddress(Buffer.from(address, 'base64'))
    if (own !== undefined) unlessErrno(['EEXIST'], () => addAddress(rt, `restore the address of "${name.ifname}"`, { ...own, index }))
    for (const text of routes) {
      const route = decodeRoute(Buffer.from(text, 'base64'))
      unlessErrno(['EEXIST'], () =>
        addRoute(rt, `restore a route of "${name.ifname}"`, { ...route, attributes: { ...route.attributes, outputIndex: index } }),
      )
    }
  })
}

type FoundLink = NonNullable<ReturnType<typeof findLink>>

function inside<T>({ netns: { path, inode }, ifname }: InterfaceName, act: (rt: NetlinkSocket, link: FoundLink) => T): T | undefined {
  using netns = findNetns({ path, inode })
  let found: T | undefined
  if (netns === undefined) return found
  // Sockets belong to the namespace that they are opened in, those of `act` too.
  within(netns, () => {
    using rt = openRtnetlink()
    const link = findLink(rt, ifname)
    if (link !== undefined) found = act(rt, link)
  })
  return found
}

function written(write: (writer: ByteWriter) => void): string {
  const writer = new ByteWriter()
  write(writer)
  return writer.view().toString('base64')
}
