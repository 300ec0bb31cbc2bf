/** The bridge: a switch with an address of the host's, as docker0 is. */
import { TsnetError, unlessErrno } from '../error.ts'
import { changeLink, createLink, deleteLink, findLink, type ObservedLink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { IFF_UP } from '../wire/link.ts'

export interface BridgeOptions {
  /** Up to 15 bytes; letters, digits, `_`, `.`, `-`. */
  readonly name: string
  /** Six bytes. Pinned, since the kernel would otherwise take the lowest of the ports' and change it under its neighbours. */
  readonly mac: Uint8Array
  /** Bytes; absent: what the kernel gives. */
  readonly mtu?: number
  /** Whether its ports are members of VLANs; else frames pass whatever their tag. */
  readonly vlanFiltering?: boolean
}

/** @returns The bridge, or undefined. @throws TsnetError when a link of another kind has the name */
export function findBridge(rt: NetlinkSocket, name: string): ObservedLink | undefined {
  const link = findLink(rt, name)
  if (link !== undefined && link.linkinfo?.kind !== 'bridge') {
    throw new TsnetError('TSNET_BRIDGE', `Cannot use "${name}" as a bridge: it is a link of kind "${link.linkinfo?.kind ?? 'none'}"`, {
      cniCode: 7,
      hint: 'Give another name as "bridge"',
    })
  }
  return link
}

/** Creates the bridge, up, without spanning tree. @returns false when another process was faster: its bridge stays as it is */
export function createBridge(rt: NetlinkSocket, options: BridgeOptions): boolean {
  const { name, mac, mtu, vlanFiltering } = options
  const bridge = { stpState: 0, ...(vlanFiltering === true && { vlanFiltering: 1 }) }
  const link = { ifname: name, address: mac, ...(mtu !== undefined && { mtu }), linkinfo: { kind: 'bridge', bridge } }
  return unlessErrno(['EEXIST'], () => createLink(rt, `create the bridge "${name}"`, link, IFF_UP))
}

export function setBridgeUp(rt: NetlinkSocket, name: string): void {
  changeLink(rt, `set the bridge "${name}" up`, { id: name, up: true })
}

/** Frames that stay on the bridge pass the rules too, whatever the host's `bridge-nf-call-iptables` says; the kernel needs br_netfilter. */
export function filterBridge(rt: NetlinkSocket, name: string): void {
  const bridge = { nfCallIptables: 1, nfCallIp6tables: 1 }
  changeLink(rt, `filter the frames of "${name}"`, { id: name, link: { linkinfo: { kind: 'bridge', bridge } } })
}

/** @returns Whether frames that stay on the bridge pass the rules. */
export function isFiltered({ linkinfo }: ObservedLink): boolean {
  return linkinfo?.bridge?.nfCallIptables === 1 && linkinfo.bridge.nfCallIp6tables === 1
}

/** @param mac Of the one that is meant, where another process may have made one of that name. */
export function deleteBridge(rt: NetlinkSocket, name: string, mac?: Uint8Array): void {
  const link = findLink(rt, name)
  if (link !== undefined && (mac === undefined || Buffer.compare(link.address ?? new Uint8Array(), mac) === 0)) deleteLink(rt, link.index)
}

/** BR_BOOLOPT_NO_LL_LEARN, as value and as mask. @see include/uapi/linux/if_bridge.h (Linux 5.0) */
const NO_LL_LEARN = 1

/** @returns Whether the bridge learns no MAC address from frames to 01:80:c2:00:00:0x, of which some come by no hook of nf_tables. */
export function ignoresGroupFrames(bridge: ObservedLink): boolean {
  const options = bridge.linkinfo?.bridge?.options
  return options !== undefined && ((options[0] ?? 0) & NO_LL_LEARN) !== 0
}

export function ignoreGroupFrames(rt: NetlinkSocket, name: string, ignore: boolean): void {
  const options = Uint8Array.of(ignore ? NO_LL_LEARN : 0, 0, 0, 0, NO_LL_LEARN, 0, 0, 0)
  changeLink(rt, `set the options of the bridge "${name}"`, { id: name, link: { linkinfo: { kind: 'bridge', bridge: { options } } } })
}
