/** The host's interface in a VLAN of a bridge, `bridge.vlan`: the free end of a veth pair whose other end is a port with that VLAN. */

import { randomMac } from '../bridge/mac.ts'
import { portsOfVlan, setPortVlans } from '../bridge/port-vlans.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { changeLink, deleteLink, findLink, type ObservedLink, requireLink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { StateFolder } from '../plan/state-folder.ts'
import type { UndoStack } from '../plan/undo.ts'
import { openOwnNetns } from '../sys/netns.ts'
import { ensureSysctl } from '../sys/sysctl.ts'
import { lockBridges } from './bridge-device.ts'
import { createPair, findPeer } from './veth-pair.ts'

const LONGEST_NAME = 15

export interface VlanGateway {
  readonly bridge: string
  readonly vlan: number
}

interface Surroundings {
  readonly bridge: ObservedLink
  readonly keepDefault: boolean
  readonly state: StateFolder
  readonly undo: UndoStack
}

/**
 * The caller holds the lock of the bridges. One of that name that is there already is used, whatever its kind.
 * @returns The interface, up
 * @throws TsnetError TSNET_CONFIG, CNI code 7, when the name would be too long
 */
export function ensureVlanGateway(host: NetlinkSocket, gateway: VlanGateway, { bridge, keepDefault, state, undo }: Surroundings): ObservedLink {
  const name = nameOf(gateway)
  const present = findLink(host, name)
  if (present !== undefined) return present
  undo.push(`interface "${name}"`, () => dropUnusedVlanGateway(host, gateway, state))
  using own = openOwnNetns()
  const wish = { ifname: name, netnsFd: own.fd, bridgeIndex: bridge.index, mac: randomMac(), ...(bridge.mtu !== undefined && { mtu: bridge.mtu }) }
  const end = createPair({ host, container: host }, wish, () => {})
  setPortVlans(host, requireLink(host, end.name).index, { native: gateway.vlan, tagged: [], keepDefault })
  for (const key of ['accept_ra', 'accept_dad']) ensureSysctl(`net/ipv6/conf/${name}/${key}`, '0')
  changeLink(host, `set "${name}" up`, { id: name, up: true })
  return requireLink(host, name)
}

/** Deletes the interface when no other port has the VLAN any more. Only one that is made as ours are. */
export function dropUnusedVlanGateway(host: NetlinkSocket, gateway: VlanGateway, state: StateFolder): void {
  using _lock = lockBridges(state)
  const bridge = findLink(host, gateway.bridge)
  const link = findLink(host, nameOf(gateway))
  const port = link && findPeer(host, link)
  if (link === undefined || bridge === undefined || port?.master !== bridge.index) return
  const isOther = (index: number) => index !== port.index && findLink(host, index)?.master === bridge.index
  if (!portsOfVlan(host, gateway.vlan).some(isOther)) deleteLink(host, link.index)
}

/** @throws TsnetError TSNET_CONFIG, CNI code 7, when it is no name of an interface */
export function nameOf({ bridge, vlan }: VlanGateway): string {
  const name = `${bridge}.${vlan}`
  if (name.length <= LONGEST_NAME) return name
  throw new TsnetError('TSNET_CONFIG', `Cannot name the gateway's interface "${name}": it has more than ${LONGEST_NAME} bytes`, {
    cniCode: CNI_CODE.invalidConfig,
    hint: 'Give a shorter name as "bridge"',
  })
}
