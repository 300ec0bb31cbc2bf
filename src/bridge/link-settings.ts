/** Settings of an interface that a plugin changes and DEL sets back: MAC, MTU, flags, queue length. */

import { isErrno } from '../error.ts'
import { changeLink, findLink, type ObservedLink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { IFF_ALLMULTI, IFF_PROMISC } from '../wire/link.ts'
import { macToBytes, macToText } from './mac.ts'
import { ensureFirstRoute, routesOf } from './route.ts'

/** What is absent stays as it is. The names are those of the configuration and of the backup file. */
export interface LinkSettings {
  /** Lower case, colons. */
  readonly mac?: string
  /** Bytes. */
  readonly mtu?: number
  readonly promisc?: boolean
  readonly allmulti?: boolean
  /** Packets. */
  readonly txQLen?: number
}

/** @returns The present values of the settings that `wanted` names, in the order of the backup file. */
export function readLinkSettings(link: ObservedLink, wanted: LinkSettings): LinkSettings {
  return {
    ...(wanted.mac !== undefined && { mac: macToText(link.address ?? new Uint8Array(6)) }),
    ...(wanted.promisc !== undefined && { promisc: (link.flags & IFF_PROMISC) !== 0 }),
    ...(wanted.mtu !== undefined && { mtu: link.mtu ?? 0 }),
    ...(wanted.allmulti !== undefined && { allmulti: (link.flags & IFF_ALLMULTI) !== 0 }),
    ...(wanted.txQLen !== undefined && { txQLen: link.txQueueLength ?? 0 }),
  }
}

/** @param rt A socket in the container's namespace. @throws KernelError of the setting that the kernel refuses */
export function applyLinkSettings(rt: NetlinkSocket, name: string, { mac, mtu, promisc, allmulti, txQLen }: LinkSettings): void {
  if (mac !== undefined) setMac(rt, name, mac)
  if (promisc !== undefined) changeLink(rt, `make "${name}" promiscuous: ${promisc}`, { id: name, promiscuous: promisc })
  if (allmulti !== undefined) changeLink(rt, `make "${name}" take all multicast: ${allmulti}`, { id: name, allMulticast: allmulti })
  if (mtu !== undefined) changeLink(rt, `set the MTU of "${name}" to ${mtu}`, { id: name, link: { mtu } })
  if (txQLen !== undefined) changeLink(rt, `set the queue length of "${name}" to ${txQLen}`, { id: name, link: { txQueueLength: txQLen } })
}

/** Most devices change their address while they are up; one that does not loses its routes on the way, which come back. */
function setMac(rt: NetlinkSocket, name: string, mac: string): void {
  const set = () => changeLink(rt, `set the MAC address of "${name}" to ${mac}`, { id: name, link: { address: macToBytes(mac) } })
  try {
    set()
  } catch (error) {
    if (!isErrno(error, 'EBUSY')) throw error
    const index = findLink(rt, name)?.index ?? 0
    const routes = routesOf(rt, index)
    changeLink(rt, `set "${name}" down`, { id: name, up: false })
    set()
    changeLink(rt, `set "${name}" up`, { id: name, up: true })
    for (const route of [...routes].reverse()) ensureFirstRoute(rt, index, route)
  }
}
