/** From what a caller wishes to what the attachment gets: addresses, routes, ports. */
import { CNI_CODE, TsnetError } from '../error.ts'
import { leaseOwner } from '../ipam/lease.ts'
import { openSubnet } from '../ipam/open-subnet.ts'
import { type RangeSet, rangeWith } from '../ipam/range.ts'
import { disjointPrefixes, formatHostPort, type Protocol, type PublishedPort, portsConflict, targetsOverlap } from '../nat/model.ts'
import { containsAddress, formatAddress, formatPrefix, type IpAddress, type IpPrefix, parsePrefix } from '../wire/ip-address.ts'
import { recordedLeases } from './address-book.ts'
import type { Network } from './network.ts'
import type { Owner } from './owner.ts'
import type { RecordedAddress, RecordedRoute } from './record.ts'
import { networkFolder, type StateFolder } from './state-folder.ts'
import type { UndoStack } from './undo.ts'

/** A port as the caller wants it; without an address it is published in every family that the attachment has. */
export interface PortWish {
  /** 0: a free one. */
  readonly hostPort: number
  readonly containerPort: number
  readonly count: number
  readonly protocol: Protocol
  /** 0.0.0.0 and :: stand for every address of that family. */
  readonly hostIP?: IpAddress
  /** Who alone may connect; in a family of which it names nobody the port is not published. */
  readonly allow?: readonly IpPrefix[]
}

export interface Wishes {
  /** At most one for each range set. */
  readonly addresses: readonly { readonly address: IpAddress }[]
  /** A route without gateway leaves by the network's. */
  readonly routes: readonly RecordedRoute[]
  readonly ports: readonly PortWish[]
}

export interface Acquisition {
  readonly wishes: Wishes['addresses']
  readonly state: StateFolder
  readonly undo: UndoStack
}

/** One address of each range set. A wish that no set could fulfil is refused, and so is a second one of the same set. */
export function acquireAddresses(owner: Owner, network: Network, { wishes, state, undo }: Acquisition): readonly RecordedAddress[] {
  const stray = wishes.find(({ address }) => !network.rangeSets.some((set) => belongsTo(set, address)))
  if (stray !== undefined) {
    throw new TsnetError(
      'TSNET_REQUESTED_ADDRESS',
      `Cannot hand out ${formatAddress(stray.address)}: it is in no range of network "${network.name}"`,
      { cniCode: CNI_CODE.invalidConfig },
    )
  }
  const setOf = ({ address }: Wishes['addresses'][number]) => network.rangeSets.find((set) => belongsTo(set, address))
  const second = wishes.find((wish, i) => wishes.findIndex((other) => setOf(other) === setOf(wish)) < i)
  if (second !== undefined) {
    throw new TsnetError(
      'TSNET_REQUESTED_ADDRESS',
      `Cannot hand out ${formatAddress(second.address)}: an attachment gets one address of each range, and another one is requested too`,
      { cniCode: CNI_CODE.invalidConfig },
    )
  }
  const holder = leaseOwner(owner.containerID, owner.ifname)
  const recorded = () => recordedLeases(state, network.name)
  const options = { folder: networkFolder(state, network.name), network: network.name, rangeSets: network.rangeSets, recorded }
  // What cannot be opened has leased nothing that would have to be given back.
  using store = openSubnet(options)
  undo.push('leases', () => {
    using again = openSubnet(options)
    again.releaseAll(holder)
  })
  return network.rangeSets.map((set, i) => {
    const wish = wishes.find(({ address }) => belongsTo(set, address))
    const { address, prefixLength, gateway } = store.acquire(holder, i, wish?.address)
    return { address: formatPrefix({ address, prefixLength }), ...(network.isGateway && { gateway: formatAddress(gateway) }) }
  })
}

/** A set that has a subnet for the address; whether the address may be handed out is for the store to say. */
function belongsTo(set: RangeSet, address: IpAddress): boolean {
  return rangeWith(set, address) !== undefined || set.some(({ subnet }) => containsAddress(subnet, address))
}

/** The default route of each family, then what the configuration adds; a route without gateway leaves by the network's. */
export function routesFor(wishes: Wishes, network: Network, addresses: readonly RecordedAddress[]): readonly RecordedRoute[] {
  const gatewayOf = (dst: string) => addresses.find(({ address }) => address.includes(':') === dst.includes(':'))?.gateway
  const configured = wishes.routes.map((route) => {
    const gw = route.gw ?? gatewayOf(route.dst)
    return { ...route, ...(gw !== undefined && { gw }) }
  })
  const defaults = network.isDefaultGateway
    ? addresses.flatMap(({ address, gateway }) => (gateway === undefined ? [] : [{ dst: address.includes(':') ? '::/0' : '0.0.0.0/0', gw: gateway }]))
    : []
  return [...defaults.filter(({ dst }) => !configured.some((route) => route.dst === dst)), ...configured]
}

/** What ports lead to: an attachment, and what its network allows. */
export interface PortTarget {
  readonly addresses: readonly RecordedAddress[]
  /** Whether the container's own address answers too, so that each of its ports can be opened only once. */
  readonly direct?: boolean
  /** Whether nothing from outside may reach it. */
  readonly internal: boolean
}

/**
 * @returns For each wish its ports: one of each family of the attachment that it fits.
 * @throws TsnetError with CNI code 7 for two wishes of the same port, or one that no address of the attachment can serve
 */
export function portsFor(wishes: readonly PortWish[], target: PortTarget): readonly (readonly PublishedPort[])[] {
  const groups = wishes.map((wish) => portsOf(wish, target))
  refuseTwins(
    groups.flat().filter(({ hostPort }) => hostPort > 0),
    portsConflict,
  )
  if (target.direct === true) refuseTwins(groups.flat(), targetsOverlap)
  return groups
}

function portsOf({ hostIP, allow, ...wish }: PortWish, { addresses, internal }: PortTarget): readonly PublishedPort[] {
  const hostAddress = hostIP === undefined || hostIP.value === 0n ? undefined : hostIP
  const ports = addresses
    .map(({ address }) => parseHost(address))
    .filter((address) => hostIP === undefined || hostIP.family === address.family)
    .map((address) => ({ ...wish, ...(hostAddress && { hostAddress }), address, allow: allow && allowedIn(allow, address.family) }))
    // In a family of which it names nobody, nobody may connect.
    .filter(({ allow }) => allow === undefined || allow.length > 0)
    .map(({ allow, ...port }) => ({ ...port, ...(allow && { allow }) }))
  if (ports.length > 0 && !internal && addresses.some(({ gateway }) => gateway !== undefined)) return ports
  const what = wish.hostPort === 0 ? `container port ${wish.containerPort}` : `port ${wish.hostPort}`
  throw refusePort(`Cannot publish ${what}: ${unpublishable({ hostIP, internal, addresses })}`)
}

function allowedIn(allow: readonly IpPrefix[], family: IpAddress['family']): readonly IpPrefix[] {
  return disjointPrefixes(allow.filter(({ address }) => address.family === family))
}

function unpublishable({ hostIP, internal, addresses }: PortTarget & { readonly hostIP: IpAddress | undefined }): string {
  if (internal) return 'the network is internal'
  if (!addresses.some(({ gateway }) => gateway !== undefined)) return 'the bridge is no gateway'
  const family = hostIP?.family ?? 4
  const served = addresses.some(({ address }) => parseHost(address).family === family)
  return !served ? `the attachment has no IPv${family} address` : '"allow" names nobody of a family that the attachment has'
}

/** @throws TsnetError with CNI code 7 for two ports of one request that are in each other's way */
function refuseTwins(ports: readonly PublishedPort[], clash: (a: PublishedPort, b: PublishedPort) => boolean): void {
  for (const [i, port] of ports.entries()) {
    const twin = ports.slice(0, i).find((other) => clash(other, port))
    if (twin === undefined) continue
    const reason = portsConflict(twin, port)
      ? `publishes ${formatHostPort(twin)} too`
      : `opens the same port of the container by ${formatHostPort(twin)}`
    throw refusePort(`Cannot publish ${formatHostPort(port)}: the request ${reason}`)
  }
}

function parseHost(address: string): IpAddress {
  const prefix = parsePrefix(address)
  if (prefix === undefined) throw new TypeError(`${JSON.stringify(address)} is no address with a prefix length`)
  return prefix.address
}

function refusePort(message: string): TsnetError {
  return new TsnetError('TSNET_CONFIG', message, { cniCode: CNI_CODE.invalidConfig })
}
