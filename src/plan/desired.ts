/** What shall be true for one attachment, as a value: ADD makes it so, CHECK compares. Pure. */

import type { LinkSettings } from '../bridge/link-settings.ts'
import { macToBytes } from '../bridge/mac.ts'
import type { RouteOptions } from '../bridge/route.ts'
import type { RateLimits } from '../bridge/shaper.ts'
import type { RulePart } from '../nat/backend.ts'
import type { SourceGuard } from '../nat/source-guard/element.ts'
import { formatPrefix, type IpAddress, type IpPrefix, parseAddress, parsePrefix } from '../wire/ip-address.ts'
import type { BackendName } from './backend.ts'
import { answersOnLoopback, type HostSysctl, loopbackSwitch, looseSwitch, type Sysctl, switchesOf } from './host-switches.ts'
import { gatewaysOf, type Network, type NetworkRecord, subnetsOf } from './network.ts'
import { detourName, hostVethName, type Owner, ownerText } from './owner.ts'
import { rulesOfAttachment, rulesOfNetwork } from './policy.ts'
import { type AttachmentRecord, recordedPort } from './record.ts'
import { guardOf } from './source-guard.ts'
import { isRoutedBySource, type SourceRouting, sourceRoutingOf, yieldedRoutes } from './source-routing.ts'

/** What else the container of an attachment has. */
export interface Siblings {
  readonly records: readonly AttachmentRecord[]
  /** Bridges that tsnet made for its other networks. */
  readonly bridges: readonly string[]
}

export interface Desired {
  readonly bridge: {
    readonly name: string
    readonly mac: Uint8Array
    readonly addresses: readonly IpPrefix[]
    /** Whether frames between its ports pass the rules. */
    readonly filtered: boolean
  }
  readonly port: { readonly name: string; readonly mac: Uint8Array; readonly alias: string; readonly hairpin: boolean; readonly isolated: boolean }
  readonly container: {
    readonly ifname: string
    readonly mac: Uint8Array
    readonly addresses: readonly IpPrefix[]
    readonly routes: readonly RouteOptions[]
    /** Default routes that it has unless another interface has one. */
    readonly yieldedRoutes: readonly RouteOptions[]
    /** Present when the container has several interfaces. */
    readonly sourceRouting?: SourceRouting
    readonly sysctls: readonly Sysctl[]
    readonly settings: LinkSettings
  }
  /** Present when the container may not send or receive as much as it likes. */
  readonly limits?: RateLimits & { readonly detour: string }
  /** Bytes. */
  readonly mtu: number
  readonly hostSysctls: readonly HostSysctl[]
  readonly rules: RulePart
  /** Present when it may send only what is its own. */
  readonly guard?: SourceGuard
}

/**
 * @param network Adds what all its attachments share.
 * @param siblings The other interfaces of the container.
 * @returns What the record of an attachment promises
 */
export function desiredOf(record: AttachmentRecord, network: NetworkRecord, siblings: Siblings = { records: [], bridges: [] }): Desired {
  const addresses = record.addresses.flatMap(({ address }) => parsePrefix(address) ?? [])
  const gateways = record.addresses.flatMap(({ address, gateway }) => gatewayPrefix(address, gateway))
  const ports = record.ports.map(recordedPort)
  const sourceRouting = isRoutedBySource(record, siblings.records) ? sourceRoutingOf(record) : undefined
  return {
    bridge: {
      name: record.bridge,
      mac: macToBytes(record.bridgeMac),
      addresses: network.gateway ? gateways : [],
      filtered: network.policy?.icc === false && record.isolated !== true,
    },
    port: {
      name: hostVethName(record),
      mac: macToBytes(record.hostMac),
      alias: aliasOf(record),
      hairpin: record.hairpin,
      isolated: record.isolated === true,
    },
    container: {
      ifname: record.ifname,
      mac: macToBytes(record.mac),
      addresses,
      routes: record.routes.flatMap(({ dst, gw, ...more }) => routeOf(dst, gw, more)),
      yieldedRoutes: yieldedRoutes(record, siblings.records),
      ...(sourceRouting && { sourceRouting }),
      sysctls: containerSysctls(
        record,
        addresses.some(({ address }) => address.family === 6),
      ),
      settings: record.settings ?? {},
    },
    ...(record.limits && { limits: { ...record.limits, detour: detourName(record) } }),
    mtu: record.mtu,
    hostSysctls: [...switchesAround(network, siblings.bridges), ...(answersOnLoopback(ports) ? [loopbackSwitch(record.bridge)] : [])],
    rules: { networks: rulesOfNetwork(network), attachments: [rulesOfAttachment(record, ports)] },
    ...(record.guarded === true && { guard: guardOf(record, siblings.records) }),
  }
}

/** @returns The alias of the host's end: whose link it is, as far as 255 bytes go. */
export function aliasOf(owner: Owner): string {
  return `tsnet ${ownerText(owner)}`.slice(0, 255)
}

/**
 * @param more Whether tsnet makes the bridge, whether the subnet was chosen, former subnets that still have attachments, and whether some are guarded
 * @returns The network's record as it is once the network is set up
 */
export function networkRecordOf(
  network: Network,
  more: {
    readonly created: boolean
    readonly chosen: boolean
    readonly keep: readonly string[]
    readonly guarded: boolean
    readonly backend: BackendName
    readonly loopbackRouted: boolean
  },
): NetworkRecord {
  return {
    bridge: network.bridge,
    createdBridge: more.created,
    masquerade: network.ipMasq,
    gateway: network.isGateway,
    policy: network.policy,
    backend: more.backend,
    ...((network.sourceGuard || more.guarded) && { sourceGuard: true }),
    subnets: [...new Set([...subnetsOf(network.rangeSets).map(formatPrefix), ...more.keep])],
    chosen: more.chosen,
    ...(more.loopbackRouted && { loopbackRouted: true }),
  }
}

/** @returns The addresses that the bridge shall have. */
export function bridgeAddressesOf(network: Network): readonly IpPrefix[] {
  return network.isGateway ? gatewaysOf(network.rangeSets) : []
}

/** On bridges of ours alone the check of sources is strict, so only those have to be loosened. */
function switchesAround(network: NetworkRecord, siblings: readonly string[]): readonly HostSysctl[] {
  const own = switchesOf(network)
  if (siblings.length === 0) return own
  const loose = [...siblings, ...(network.createdBridge ? [network.bridge] : [])].map(looseSwitch)
  return [...own.filter(({ key }) => !loose.some((other) => other.key === key)), ...loose]
}

/**
 * No waiting for duplicate address detection, no addresses by router advertisement; neighbours hear of a new address. Without
 * an address of IPv6 the interface has none at all: by a link-local one the container would speak past the rules.
 */
function containerSysctls(record: AttachmentRecord, v6: boolean): readonly Sysctl[] {
  const configured = (record.sysctls ?? []).map((sysctl) => ({ ...sysctl, required: true }))
  const own = ownSysctls(record, v6).filter(({ key }) => !configured.some((other) => other.key === key))
  return [...own, ...configured]
}

function ownSysctls({ ifname, guarded }: AttachmentRecord, v6: boolean): readonly Sysctl[] {
  const arp = { key: `net/ipv4/conf/${ifname}/arp_notify`, value: '1' }
  const conf = `net/ipv6/conf/${ifname}`
  if (!v6) return [arp, { key: `${conf}/disable_ipv6`, value: '1' }]
  return [
    arp,
    { key: `${conf}/disable_ipv6`, value: '0' },
    { key: `${conf}/accept_dad`, value: '0' },
    { key: `${conf}/accept_ra`, value: '0' },
    { key: `${conf}/ndisc_notify`, value: '1' },
    // The guard lets the link-local address pass that follows from the MAC address.
    ...(guarded === true ? [{ key: `${conf}/addr_gen_mode`, value: '0' }] : []),
  ]
}

function gatewayPrefix(address: string, gateway: string | undefined): readonly IpPrefix[] {
  const prefix = parsePrefix(address)
  const parsed = gateway === undefined ? undefined : parseAddress(gateway)
  return prefix === undefined || parsed === undefined ? [] : [{ address: parsed, prefixLength: prefix.prefixLength }]
}

function routeOf(dst: string, gw: string | undefined, more: Omit<RouteOptions, 'destination' | 'gateway'>): readonly RouteOptions[] {
  const destination = parsePrefix(dst)
  const gateway: IpAddress | undefined = gw === undefined ? undefined : parseAddress(gw)
  return destination === undefined ? [] : [{ destination, ...(gateway && { gateway }), ...more }]
}
