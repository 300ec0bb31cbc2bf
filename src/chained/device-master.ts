/** The link that a container's interface stands on. */
import { defaultRouteLink } from '../bridge/route.ts'
import { invalidField, quote } from '../cni/json.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { findLink, type ObservedLink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'

/**
 * @param rt A socket in the namespace where the master is.
 * @param name Empty: the interface that the default route leaves by.
 * @throws TsnetError TSNET_MASTER, CNI code 7, when there is none
 */
export function findMaster(rt: NetlinkSocket, name: string): ObservedLink {
  const master = lookUpMaster(rt, name)
  if (master !== undefined) return master
  const what = name === '' ? 'there is no default route, and the configuration names no "master"' : `there is no interface ${quote(name)}`
  throw new TsnetError('TSNET_MASTER', `Cannot find the master interface: ${what}`, { cniCode: CNI_CODE.invalidConfig })
}

/** The same without a word. @returns undefined when there is none */
export function lookUpMaster(rt: NetlinkSocket, name: string): ObservedLink | undefined {
  return name === '' ? defaultRouteLink(rt) : findLink(rt, name)
}

/** @param mtu Bytes; 0 leaves it to the kernel. @throws TsnetError TSNET_CONFIG, CNI code 7, above the master's */
export function refuseLargerMtu(mtu: number, master: ObservedLink): void {
  const most = master.mtu ?? 0
  if (mtu > most) throw new TsnetError('TSNET_CONFIG', `invalid MTU ${mtu}, must be [0, master MTU(${most})]`, { cniCode: CNI_CODE.invalidConfig })
}

/** @returns The kernel's number of a mode. @throws TsnetError TSNET_CONFIG, CNI code 7 */
export function modeOf(modes: Readonly<Record<string, number>>, mode: string): number {
  const number = Object.hasOwn(modes, mode) ? modes[mode] : undefined
  if (number === undefined) throw invalidField('mode', mode, `one of ${Object.keys(modes).join(', ')}`)
  return number
}
