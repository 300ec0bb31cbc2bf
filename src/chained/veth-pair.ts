/** The veth pair of types `bridge` and `ptp`, under the name that the reference plugins give to the host's end. */
import { macToText, randomMac } from '../bridge/mac.ts'
import { createVeth, type VethOptions } from '../bridge/veth.ts'
import { isErrno } from '../error.ts'
import { deleteLink, findLink, findNetnsId, type ObservedLink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { Netns } from '../sys/netns.ts'
import { randomBytes } from '../sys/random.ts'
import { ensureSysctl } from '../sys/sysctl.ts'

const NAME_TRIES = 10

/** The host's end: what it is known by when it is to be deleted. */
export interface HostEnd {
  readonly name: string
  /** Lower case, colons. */
  readonly mac: string
}

export type PairWish = Omit<VethOptions, 'hostName' | 'hostMac' | 'alias'>

/**
 * @param onChosen Hears of the host's end before it comes into being.
 * @returns The host's end; it is up, the container's is not
 * @throws TsnetError TSNET_INTERFACE_TAKEN, CNI code 101; KernelError
 */
export function createPair(sockets: PairSockets, wish: PairWish, onChosen: (end: HostEnd) => void): HostEnd {
  for (let tries = 1; ; tries++) {
    const hostMac = randomMac()
    const end = { name: `veth${randomBytes(4).toString('hex')}`, mac: macToText(hostMac) }
    onChosen(end)
    try {
      createVeth(sockets.host, sockets.container, { ...wish, hostName: end.name, hostMac })
      ensureSysctl(`net/ipv6/conf/${end.name}/accept_ra`, '0')
      return end
    } catch (error) {
      if (!isErrno(error, 'EEXIST') || tries === NAME_TRIES) throw error
    }
  }
}

export interface PairSockets {
  readonly host: NetlinkSocket
  readonly container: NetlinkSocket
}

/** @returns The end, if it is there and has the MAC address that it was made with. */
export function findHostEnd(host: NetlinkSocket, { name, mac }: HostEnd): ObservedLink | undefined {
  const link = findLink(host, name)
  return link?.linkinfo?.kind === 'veth' && link.address !== undefined && macToText(link.address) === mac ? link : undefined
}

/** Takes the other end along. @returns Whether it was there */
export function deleteHostEnd(host: NetlinkSocket, end: HostEnd): boolean {
  const link = findHostEnd(host, end)
  return link !== undefined && deleteLink(host, link.index)
}

/**
 * Numbers of links are those of each namespace, and what has the right ones may be the end of another pair: the end that is found must lead to
 * the namespace of the first, too.
 * @param netns Where the link is; absent: in the namespace of `there`.
 * @returns The other end of a veth pair, if that is in the namespace of `there`
 */
export function findPeer(there: NetlinkSocket, link: ObservedLink, netns?: Netns): ObservedLink | undefined {
  if (link.linkinfo?.kind !== 'veth' || link.linkIndex === undefined) return undefined
  const peer = findLink(there, link.linkIndex)
  if (peer?.linkinfo?.kind !== 'veth' || peer.linkIndex !== link.index) return undefined
  return peer.linkNetnsId === (netns && findNetnsId(there, netns.fd)) ? peer : undefined
}
