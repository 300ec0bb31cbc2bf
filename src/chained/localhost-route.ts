import { findLink, openRtnetlink, outputLinkTo } from '../netlink/rtnetlink.ts'
import type { UndoStack } from '../plan/undo.ts'
import { ensureSysctl, writeSysctl } from '../sys/sysctl.ts'
import { AF_INET } from '../wire/address.ts'
import { addressToBytes, type IpAddress } from '../wire/ip-address.ts'

/**
 * Lets what the host sends from 127.0.0.1 out of the link that leads to a container, so that a published port answers there too.
 * @param address Of IPv4
 * @see kernel Documentation/networking/ip-sysctl.rst, route_localnet
 */
export function routeLocalhostTo(address: IpAddress, undo: UndoStack): void {
  using rt = openRtnetlink()
  const name = findLink(rt, outputLinkTo(rt, AF_INET, addressToBytes(address)) ?? 0)?.ifname
  if (name === undefined) return
  const key = `net/ipv4/conf/${name}/route_localnet`
  const former = ensureSysctl(key, '1')
  if (former !== undefined) undo.push(`sysctl ${key}`, () => writeSysctl(key, former))
}
