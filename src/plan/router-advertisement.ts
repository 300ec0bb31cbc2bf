import { listLinks } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { readSysctl, writeSysctl } from '../sys/sysctl.ts'

/**
 * A host that forwards IPv6 stops listening to router advertisements, and loses its own default route when it expires.
 * Interfaces that listen now (accept_ra 1) are told to go on all the same (2), before forwarding is turned on.
 * @returns How to take it back
 * @see Documentation/networking/ip-sysctl.rst, accept_ra
 */
export function keepAdvertisedRoutes(rt: NetlinkSocket): () => void {
  const listening = listLinks(rt)
    .filter(({ ifname }) => readSysctl(acceptKey(ifname)) === '1' && readSysctl(`net/ipv6/conf/${ifname}/forwarding`) === '0')
    .map(({ ifname }) => acceptKey(ifname))
  for (const key of listening) writeSysctl(key, '2')
  return () => {
    for (const key of listening) if (readSysctl(key) === '2') writeSysctl(key, '1')
  }
}

function acceptKey(ifname: string | undefined): string {
  return `net/ipv6/conf/${ifname}/accept_ra`
}
