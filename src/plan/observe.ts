/** What is true now, read from the kernel. */
import { addressesOf } from '../bridge/address.ts'
import { findBridge, ignoresGroupFrames, isFiltered } from '../bridge/bridge.ts'
import { type LinkSettings, readLinkSettings } from '../bridge/link-settings.ts'
import { type RouteOptions, routesOf } from '../bridge/route.ts'
import { missingEgressLimit, missingIngressLimit } from '../bridge/shaper.ts'
import { type SourceRule, sourceRulesOf } from '../bridge/source-rule.ts'
import { findVeth } from '../bridge/veth.ts'
import type { Backend } from '../nat/backend.ts'
import { findUnguarded } from '../nat/source-guard/guard.ts'
import { findLink, openRtnetlink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { type Netns, within } from '../sys/netns.ts'
import { readSysctl } from '../sys/sysctl.ts'
import type { IpPrefix } from '../wire/ip-address.ts'
import { IFF_UP } from '../wire/link.ts'
import type { Desired } from './desired.ts'
import type { Sysctl } from './host-switches.ts'

export interface ObservedBridge {
  readonly index: number
  readonly up: boolean
  readonly mtu: number
  readonly mac: Uint8Array
  readonly addresses: readonly IpPrefix[]
  readonly filtered: boolean
  /** Whether it learns nothing from frames to 01:80:c2:00:00:0x. */
  readonly ignoresGroupFrames?: boolean
}

export interface ObservedPort {
  readonly index: number
  readonly up: boolean
  readonly mtu: number
  readonly mac: Uint8Array
  /** Index of the bridge that it is a port of; 0 when of none. */
  readonly master: number
  readonly hairpin: boolean
  readonly isolated: boolean
  /** Whether the host speaks IPv6 over it. */
  readonly ipv6: boolean
}

export interface ObservedContainer {
  readonly index: number
  readonly up: boolean
  readonly mtu: number
  readonly mac: Uint8Array
  readonly addresses: readonly IpPrefix[]
  readonly routes: readonly RouteOptions[]
  readonly sourceRules: readonly SourceRule[]
  readonly loopbackUp: boolean
  readonly sysctls: ReadonlyMap<string, string>
  /** Those that are desired. */
  readonly settings: LinkSettings
}

export interface Observed {
  readonly bridge?: ObservedBridge
  readonly port?: ObservedPort
  readonly container?: ObservedContainer
  /** The default routes that the container has, by whatever interface. Absent when nobody looked. */
  readonly defaultRoutes?: readonly RouteOptions[]
  /** Values of the desired keys that the kernel has. */
  readonly hostSysctls: ReadonlyMap<string, string>
  /** Absent when nobody looked. */
  readonly missingRules?: readonly string[]
  /** Which of the desired limits are not there. Absent when nobody looked. */
  readonly missingLimits?: readonly string[]
  /** What the guard lacks, where one is desired. Absent when nobody looked. */
  readonly missingGuard?: readonly string[]
}

/** Looks at what an ADD builds upon: the bridge and the host's switches. The attachment itself is not there yet. */
export function observeHost(desired: Desired, bridge: ObservedBridge | undefined): Observed {
  return { ...(bridge && { bridge }), hostSysctls: readSysctls(desired.hostSysctls) }
}

/** Looks at all that a complete attachment consists of. */
export function observeAll(rt: NetlinkSocket, desired: Desired, more: { readonly netns: Netns; readonly backend: Backend }): Observed {
  return { ...observeLinks(rt, desired, more.netns), missingRules: more.backend.findMissing(desired.rules) }
}

/** Looks at all but the rules, which cost more than everything else and can be looked at for many attachments at once. */
export function observeLinks(rt: NetlinkSocket, desired: Desired, netns: Netns): Observed {
  const port = findVeth(rt, desired.port.name, desired.port.alias)
  const inside = within(netns, () => observeInside(desired))
  return {
    ...observeHost(desired, observeBridge(rt, desired.bridge.name)),
    ...(port && {
      port: {
        index: port.index,
        up: (port.flags & IFF_UP) !== 0,
        mtu: port.mtu ?? 0,
        mac: port.address ?? new Uint8Array(),
        master: port.master ?? 0,
        hairpin: port.linkinfo?.bridgePort?.hairpin === 1,
        isolated: port.linkinfo?.bridgePort?.isolated === 1,
        ipv6: readSysctl(`net/ipv6/conf/${desired.port.name}/disable_ipv6`) === '0',
      },
    }),
    ...inside,
    ...(port && desired.limits && { missingLimits: missingLimits(rt, port.index, desired.limits) }),
    ...(desired.guard && { missingGuard: findUnguarded(desired.guard) }),
  }
}

export function observeBridge(rt: NetlinkSocket, name: string): ObservedBridge | undefined {
  const link = findBridge(rt, name)
  if (link === undefined) return undefined
  const { index, flags, mtu = 0, address = new Uint8Array() } = link
  return {
    index,
    up: (flags & IFF_UP) !== 0,
    mtu,
    mac: address,
    addresses: addressesOf(rt, index),
    filtered: isFiltered(link),
    ignoresGroupFrames: ignoresGroupFrames(link),
  }
}

function missingLimits(rt: NetlinkSocket, index: number, { ingress, egress, detour }: NonNullable<Desired['limits']>): readonly string[] {
  return [
    ...(ingress === undefined ? [] : missingIngressLimit(rt, index, ingress)),
    ...(egress === undefined ? [] : missingEgressLimit(rt, { index, name: detour }, egress)),
  ]
}

/** Runs inside the container's namespace. */
function observeInside(desired: Desired): Pick<Observed, 'container' | 'defaultRoutes'> {
  using rt = openRtnetlink()
  const routes = routesOf(rt, 0, 'any')
  const container = observeContainer(rt, desired, routes)
  const defaultRoutes = routes.filter(({ destination, table }) => destination.prefixLength === 0 && table === undefined)
  return { ...(container && { container }), defaultRoutes }
}

/** @param routes All that the container has. */
function observeContainer(rt: NetlinkSocket, desired: Desired, routes: ReturnType<typeof routesOf>): ObservedContainer | undefined {
  const link = findLink(rt, desired.container.ifname)
  if (link === undefined) return undefined
  const { index, flags, mtu = 0, address = new Uint8Array() } = link
  return {
    index,
    up: (flags & IFF_UP) !== 0,
    mtu,
    mac: address,
    addresses: addressesOf(rt, index),
    routes: routes.filter(({ outputIndex }) => outputIndex === index),
    sourceRules: desired.container.sourceRouting === undefined ? [] : sourceRulesOf(rt),
    loopbackUp: ((findLink(rt, 'lo')?.flags ?? 0) & IFF_UP) !== 0,
    sysctls: readSysctls(desired.container.sysctls),
    settings: readLinkSettings(link, desired.container.settings),
  }
}

function readSysctls(wanted: readonly Sysctl[]): ReadonlyMap<string, string> {
  return new Map(
    wanted.flatMap(({ key }) => {
      const value = readSysctl(key)
      return value === undefined ? [] : [[key, value] as const]
    }),
  )
}
