/** The bridge of type `bridge`: made by the first container that needs it, shared by all, deleted by nobody but an ADD that fails. */
import { join } from 'node:path'
import { addressesOf, deleteAddress, ensureAddress, waitForAddress } from '../bridge/address.ts'
import { createBridge, deleteBridge, findBridge, setBridgeUp } from '../bridge/bridge.ts'
import { randomMac } from '../bridge/mac.ts'
import { CNI_CODE, isErrno, TsnetError } from '../error.ts'
import { changeLink, listLinks, type ObservedLink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { isLinkLocal } from '../plan/network.ts'
import type { StateFolder } from '../plan/state-folder.ts'
import type { UndoStack } from '../plan/undo.ts'
import { isMacSet } from '../sys/link-address.ts'
import { type FileLock, lockFile } from '../sys/lock.ts'
import { randomBytes } from '../sys/random.ts'
import { ensureSysctl } from '../sys/sysctl.ts'
import { formatPrefix, type IpPrefix, prefixesOverlap } from '../wire/ip-address.ts'
import { IFF_PROMISC, IFF_UP } from '../wire/link.ts'

export interface BridgeWish {
  readonly name: string
  /** Bytes; counts only for a bridge that is made. */
  readonly mtu?: number
  readonly vlanFiltering: boolean
  /** Whether its MAC address must stay, though another program has made it: the kernel takes the lowest of the ports' unless one is set. */
  readonly pinned: boolean
}

interface BridgeContext {
  readonly state: StateFolder
  readonly undo: UndoStack
}

/** Held while a bridge gets a port, an address, or is deleted for want of ports. The state folder exists by then. */
export function lockBridges({ root, patience }: StateFolder): FileLock {
  return lockFile(join(root, 'chained', 'bridge.lock'), patience === undefined ? {} : { timeoutMs: patience.lockTimeoutMs })
}

/**
 * The caller holds the lock; undoing takes it.
 * @returns The bridge, up
 * @throws TsnetError TSNET_BRIDGE, CNI code 7, for a link of another kind, or a bridge without VLANs; TSNET_NO_VLAN_FILTERING, CNI code 50
 */
export function ensureBridge(host: NetlinkSocket, wish: BridgeWish, { state, undo }: BridgeContext): ObservedLink {
  const { name } = wish
  if (findBridge(host, name) === undefined && makeBridge(host, wish)) {
    undo.push(`bridge "${name}"`, () => {
      using _lock = lockBridges(state)
      if (isUnused(host, name)) deleteBridge(host, name)
    })
    // It has no neighbours yet that could have an address of its own: without waiting, the gateway is there at once.
    ensureSysctl(`net/ipv6/conf/${name}/accept_dad`, '0')
  }
  const acceptRa = `net/ipv6/conf/${name}/accept_ra`
  const former = ensureSysctl(acceptRa, '0')
  if (former !== undefined) undo.push(acceptRa, () => ensureSysctl(acceptRa, former))
  const bridge = findBridge(host, name)
  if (bridge === undefined) throw new TsnetError('TSNET_LINK', `Cannot find the bridge "${name}": it has vanished`)
  if (wish.vlanFiltering) refuseWithoutFiltering(bridge, name)
  if ((bridge.flags & IFF_UP) === 0) {
    undo.push(`"${name}" up`, () => isUnused(host, name) && changeLink(host, `set the bridge "${name}" down`, { id: name, up: false }))
    setBridgeUp(host, name)
  }
  // Not each time: neighbours are forgotten when it is set.
  if (wish.pinned && bridge.address !== undefined && !isMacSet(name))
    changeLink(host, `keep the MAC address of "${name}"`, { id: bridge.index, link: { address: bridge.address } })
  return bridge
}

/**
 * Makes a bridge for a moment where there is none yet, since the kernel tells no other way.
 * @throws TsnetError TSNET_BRIDGE, CNI code 7, for a link of another kind, or a bridge without VLANs; TSNET_NO_VLAN_FILTERING, CNI code 50
 */
export function ensureVlansAvailable(host: NetlinkSocket, name: string): void {
  const bridge = findBridge(host, name)
  if (bridge !== undefined) return refuseWithoutFiltering(bridge, name)
  const trial = `tsn${randomBytes(6).toString('hex')}`
  if (makeBridge(host, { name: trial, vlanFiltering: true })) deleteBridge(host, trial)
}

/** @throws KernelError */
export function ensurePromiscuous(host: NetlinkSocket, { index, ifname, flags }: ObservedLink): void {
  if ((flags & IFF_PROMISC) === 0) changeLink(host, `have "${ifname}" take frames for whatever MAC address`, { id: index, promiscuous: true })
}

/**
 * Gives the bridge the gateway's addresses. The caller holds the lock.
 * @param force Whether an address that is in the way goes.
 * @throws TsnetError TSNET_BRIDGE, CNI code 7, when one is in the way
 */
export function ensureGatewayAddresses(host: NetlinkSocket, link: ObservedLink, { addresses, force, undo }: GatewayWish): void {
  const { index, ifname = '' } = link
  if (addresses.some(({ address }) => address.family === 6)) ensureSysctl(`net/ipv6/conf/${ifname}/disable_ipv6`, '0')
  for (const wanted of addresses) {
    const present = addressesOf(host, index)
    if (present.some((other) => formatPrefix(other) === formatPrefix(wanted))) continue
    const obstacles = present.filter((other) => isInTheWay(other, wanted))
    if (obstacles[0] !== undefined && !force) throw addressInTheWay(ifname, obstacles[0], wanted)
    for (const other of obstacles) if (deleteAddress(host, index, other)) undo.push('bridge address', () => ensureAddress(host, index, other))
    if (!ensureAddress(host, index, wanted)) continue
    undo.push('bridge address', () => deleteAddress(host, index, wanted))
    waitForAddress(host, wanted.address)
  }
}

export interface GatewayWish {
  readonly addresses: readonly IpPrefix[]
  readonly force: boolean
  readonly undo: UndoStack
}

/** The kernel has an explicit refusal for VLANs that it does not know. */
function makeBridge(host: NetlinkSocket, wish: Omit<BridgeWish, 'pinned'>): boolean {
  try {
    return createBridge(host, { ...wish, mac: randomMac() })
  } catch (error) {
    if (wish.vlanFiltering && isErrno(error, 'EOPNOTSUPP', 'ENOTSUP')) throw noVlanFiltering(error)
    throw error
  }
}

/** Another container may have come to it meanwhile. */
function isUnused(host: NetlinkSocket, name: string): boolean {
  const bridge = findBridge(host, name)
  return bridge !== undefined && listLinks(host).every(({ master }) => master !== bridge.index)
}

/** Of IPv4 there is one; those of IPv6 stand side by side unless their subnets overlap. */
function isInTheWay(other: IpPrefix, wanted: IpPrefix): boolean {
  if (other.address.family !== wanted.address.family || isLinkLocal(other)) return false
  return wanted.address.family === 4 || prefixesOverlap(other, wanted)
}

/** @returns The refusal of a VLAN by the kernel, CNI code 50. */
export function noVlanFiltering(cause: unknown): TsnetError {
  return new TsnetError('TSNET_NO_VLAN_FILTERING', 'Cannot put bridge ports into VLANs: the kernel does not know VLANs on bridges', {
    cniCode: CNI_CODE.notAvailable,
    hint: 'Use a kernel with CONFIG_BRIDGE_VLAN_FILTERING, or leave "vlan" and "vlanTrunk" away',
    cause,
  })
}

function refuseWithoutFiltering({ linkinfo }: ObservedLink, name: string): void {
  if (linkinfo?.bridge?.vlanFiltering === 1) return
  throw new TsnetError('TSNET_BRIDGE', `Cannot use the bridge "${name}" for VLANs: it lets frames of all VLANs pass to all ports`, {
    cniCode: CNI_CODE.invalidConfig,
    hint: `ip link set ${name} type bridge vlan_filtering 1, or give another name as "bridge"`,
  })
}

function addressInTheWay(name: string, present: IpPrefix, wanted: IpPrefix): TsnetError {
  const texts = `${formatPrefix(wanted)}: it has ${formatPrefix(present)}`
  return new TsnetError('TSNET_BRIDGE', `Cannot give the bridge "${name}" the address ${texts}`, {
    cniCode: CNI_CODE.invalidConfig,
    hint: 'Set "forceAddress" to replace it, or give the network a bridge of its own',
  })
}
