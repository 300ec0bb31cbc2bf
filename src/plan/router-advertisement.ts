import { listLinks } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { readSysctl, writeSysctl } from '../sys/sysctl.ts'

/**
 * A host that forwards IPv6 stops listening to router advertisements, and loses its own default route when it expires.
 * Interfaces that listen now (accept_ra 1) are told to go on all the same (2), before forwarding is turned on.
 * @see Documentation/networking/ip-sysctl.rst, accept_ra
 */
export function keepAdvertisedRoutes(rt: NetlinkSocket): void {
  for (const { ifname } of listLinks(rt)) {
    const key = `net/ipv6/conf/${ifname}/accept_ra`
    if (ifname !== undefined && readSysctl(key) === '1' && readSysctl(`net/ipv6/conf/${ifname}/forwarding`) === '0') writeSysctl(key, '2')
  }
}
