/** Containers that are in several networks: what leaves by one bridge may then answer what came by another. */
import { listLinks } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { readNetwork } from './network.ts'
import type { Owner } from './owner.ts'
import { listLiveNetworks, listOwners, readRecord } from './record.ts'
import { namesIn, type StateFolder } from './state-folder.ts'

/**
 * Most hosts have one network, and most containers one interface: then there is little to look at.
 * @param container A socket in the container's namespace
 * @returns The bridges of its other networks, those that tsnet made
 */
export function siblingBridges(owner: Owner, container: NetlinkSocket, state: StateFolder): readonly string[] {
  const others = namesIn(`${state.root}/attachments`).filter((network) => network !== owner.network)
  if (others.length === 0) return []
  const ifnames = listLinks(container).flatMap(({ ifname, linkinfo }) =>
    ifname !== undefined && ifname !== owner.ifname && linkinfo?.kind === 'veth' ? [ifname] : [],
  )
  const bridges = others
    .filter((network) => ifnames.some((ifname) => readRecord(state, { network, containerID: owner.containerID, ifname }) !== undefined))
    .flatMap((network) => readNetwork(state, network) ?? [])
    .filter(({ createdBridge }) => createdBridge)
  return bridges.map(({ bridge }) => bridge)
}

/** @returns Whether a container other than this one is in several networks. */
export function othersHaveSiblings(containerID: string, state: StateFolder): boolean {
  const ids = listLiveNetworks(state).flatMap((network) => [...new Set(listOwners(state, network).map((owner) => owner.containerID))])
  const others = ids.filter((id) => id !== containerID)
  return new Set(others).size < others.length
}
