/** Forwarding, which a host does for all its containers: it is turned on, and never off. */
import type { NetlinkSocket } from '../netlink/socket.ts'
import { keepAdvertisedRoutes } from '../plan/router-advertisement.ts'
import { readSysctl, writeSysctl } from '../sys/sysctl.ts'
import type { Family } from '../wire/ip-address.ts'

const KEY: Readonly<Record<Family, string>> = { 4: 'net/ipv4/ip_forward', 6: 'net/ipv6/conf/all/forwarding' }

export function ensureForwarding(host: NetlinkSocket, families: readonly Family[]): void {
  for (const family of new Set(families)) {
    if (readSysctl(KEY[family]) === '1') continue
    if (family === 6) keepAdvertisedRoutes(host)
    writeSysctl(KEY[family], '1')
  }
}
