/** What a type that puts one interface into a container does itself; device-plugin.ts does the rest. */
import type { DeviceSite } from '../chained/container-device.ts'
import type { JsonObject } from '../cni/json.ts'
import type { ResultInterface } from '../cni/result.ts'
import type { ObservedLink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { Owner } from '../plan/owner.ts'
import type { PluginRequest } from './plugin.ts'

/** Where DEL and GC work: nothing but the owner is certain to be left. */
export interface Remains<D> {
  readonly owner: Owner
  readonly host: NetlinkSocket
  /** A socket in the container's namespace, while there is one. */
  readonly container?: NetlinkSocket
  /** What ADD has remembered, or what `recall` knows; absent when tsnet did not do the ADD. */
  readonly memory?: D
}

/** What CHECK sees. */
export interface Sight<D> {
  readonly link: ObservedLink
  readonly host: NetlinkSocket
  readonly container: NetlinkSocket
  readonly memory: D | undefined
}

/** @typeParam C The configuration. @typeParam D What ADD remembers for DEL, CHECK and GC; plain JSON. */
export interface DeviceType<C, D> {
  readonly type: string
  /** `optional`: without IPAM the interface comes up without an address. */
  readonly ipam: 'required' | 'optional'
  /** Whether what stood before it in the chain is its material, so that its result does not repeat it. */
  readonly takesPrevious?: boolean
  /** @throws TsnetError TSNET_CONFIG, CNI code 7 */
  parse(request: PluginRequest): C
  /** Looks at what there is, and changes nothing. */
  plan(config: C, sockets: Pick<DeviceSite, 'host' | 'container'>): D
  /** Whether there is nothing to put into the namespace: a device that has no interface. Default: there is. */
  isLinkless?(config: C): boolean
  make(config: C, memory: D, site: DeviceSite): void
  /** @returns What the configuration, right or wrong, says of an attachment that nobody has remembered */
  recall?(raw: JsonObject): D | undefined
  /** Takes back what `make` did, and what a killed one has begun. */
  unmake(remains: Remains<D>): void
  /** @returns What is wrong with the interface beside its addresses and routes, in words */
  check(config: C, sight: Sight<D>): readonly string[]
  /** @returns What the result says of it beside name, MAC address and MTU. */
  describe?(config: C): Pick<ResultInterface, 'pciID'>
  /** @throws TsnetError CNI code 50 when no ADD can succeed now */
  status(config: C, host: NetlinkSocket): void
}
