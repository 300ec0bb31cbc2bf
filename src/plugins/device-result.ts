/** What an ADD of an interface reports: itself, what IPAM has leased, and what stood before it in the chain. */
import { macToText } from '../bridge/mac.ts'
import { optionalObject } from '../cni/json.ts'
import { parseDns, parseResult, type Result, type ResultInterface } from '../cni/result.ts'
import { findLink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { PluginRequest } from './plugin.ts'

export const NOTHING: Result = { interfaces: [], ips: [], routes: [], dns: {} }

export interface Outcome {
  readonly leased: Result
  readonly own: ResultInterface | undefined
  readonly previous: Result | undefined
}

/** What the configuration says of names counts; where it is silent, what IPAM says. */
export function resultOf({ config }: PluginRequest, { leased, own, previous = NOTHING }: Outcome): Result {
  const index = previous.interfaces.length
  const dns = parseDns(optionalObject(config.raw, 'dns') ?? {})
  const ips = leased.ips.map(({ interface: _, ...ip }) => (own === undefined ? ip : { interface: index, ...ip }))
  return {
    interfaces: [...previous.interfaces, ...(own ? [own] : [])],
    ips: [...previous.ips, ...ips],
    routes: [...previous.routes, ...leased.routes],
    dns: [dns, leased.dns].find((names) => Object.keys(names).length > 0) ?? previous.dns,
  }
}

/** @returns An interface of the namespace that the socket is in, as a result says it. */
export function describeLink(rt: NetlinkSocket, name: string): ResultInterface {
  const { address, mtu } = findLink(rt, name) ?? {}
  return { name, ...(address && { mac: macToText(address) }), ...(mtu !== undefined && { mtu }) }
}

/** @returns The result of the plugins before, or undefined when there is none. @throws TsnetError CNI code 6, 1 or 7 */
export function previousOf({ config: { prevResult, cniVersion } }: PluginRequest): Result | undefined {
  return prevResult === undefined ? undefined : parseResult(prevResult, cniVersion)
}
