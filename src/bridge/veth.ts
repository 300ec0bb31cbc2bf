/** The veth pair: one end a port of the bridge, the other the container's interface. */
import { CNI_CODE, isErrno, TsnetError } from '../error.ts'
import { changeLink, createLink, deleteLink, findLink, type ObservedLink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { IFF_UP, type PeerLink } from '../wire/link.ts'

export interface VethOptions {
  readonly hostName: string
  /** The name inside the container's namespace. */
  readonly ifname: string
  readonly netnsFd: number
  /** Absent: the host end is a port of no bridge. */
  readonly bridgeIndex?: number
  /** Bytes, both ends; absent: what the kernel gives. */
  readonly mtu?: number
  /** Six bytes each. */
  readonly hostMac: Uint8Array
  readonly mac: Uint8Array
  /** Who the link belongs to, for `ip -d link`; at most 255 bytes. Absent: it has no mark. */
  readonly alias?: string
}

/**
 * Creates both ends in one message: the host end up, in the bridge where there is one, the peer inside the container under its final name.
 * @param container A socket in the container's namespace
 * @throws TsnetError with CNI code 101 when the container has an interface of that name, 11 when the bridge has no port left
 */
export function createVeth(host: NetlinkSocket, container: NetlinkSocket, options: VethOptions): void {
  // The peer must not be up yet: the kernel links the two ends only after creating it (ENOTCONN).
  const peer: PeerLink = {
    ifname: options.ifname,
    ...(options.mtu !== undefined && { mtu: options.mtu }),
    address: options.mac,
    netNsFd: options.netnsFd,
  }
  const link = {
    ifname: options.hostName,
    address: options.hostMac,
    ...(options.mtu !== undefined && { mtu: options.mtu }),
    ...(options.bridgeIndex !== undefined && { master: options.bridgeIndex }),
    linkinfo: { kind: 'veth', veth: { peer } },
  }
  try {
    createLink(host, `create the veth pair "${options.hostName}" and "${options.ifname}"`, link, IFF_UP)
  } catch (error) {
    if (isErrno(error, 'EEXIST') && findLink(container, options.ifname) !== undefined) throw interfaceTaken(options.ifname, error)
    if (isErrno(error, 'EXFULL')) throw bridgeFull(host, options.bridgeIndex, error)
    throw error
  }
  if (options.alias !== undefined)
    changeLink(host, `name the owner of "${options.hostName}"`, { id: options.hostName, link: { ifalias: options.alias } })
}

/**
 * Deletes the pair by its host end, which takes the peer along; waits for the kernel's RCU grace period (about 20 ms).
 * @param alias Whose link it is: one that names another owner is left alone
 * @returns Whether it was there and ours
 */
export function deleteVeth(host: NetlinkSocket, hostName: string, alias: string): boolean {
  const link = findVeth(host, hostName, alias)
  return link !== undefined && deleteLink(host, link.index)
}

/** @returns The host end if it exists and does not name another owner. */
export function findVeth(host: NetlinkSocket, hostName: string, alias: string): ObservedLink | undefined {
  const link = findLink(host, hostName)
  return link !== undefined && link.linkinfo?.kind === 'veth' && (link.ifalias ?? alias) === alias ? link : undefined
}

/** @see net/bridge/br_private.h, BR_MAX_PORTS, of which the first is no port's */
function bridgeFull(host: NetlinkSocket, bridgeIndex: number | undefined, cause: unknown): TsnetError {
  const name = bridgeIndex === undefined ? '' : (findLink(host, bridgeIndex)?.ifname ?? '')
  return new TsnetError('TSNET_BRIDGE_FULL', `Cannot add a port to the bridge "${name}": it has the 1023 that a bridge can have`, {
    cniCode: CNI_CODE.tryAgain,
    hint: 'Detach other containers, or attach to another network',
    cause,
  })
}

/** @returns The refusal of an interface whose name the namespace has already, CNI code 101. */
export function interfaceTaken(ifname: string, cause?: unknown): TsnetError {
  return new TsnetError('TSNET_INTERFACE_TAKEN', `Cannot create the interface "${ifname}": the namespace has one of that name`, {
    cniCode: CNI_CODE.interfaceTaken,
    hint: 'Give another name, or delete the old interface first',
    cause,
  })
}
