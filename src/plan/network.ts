/** Networks: what a configuration asks for, and what was chosen for it when its first attachment came. */

import { routesOf } from '../bridge/route.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { chooseSubnet } from '../ipam/choose-subnet.ts'
import type { RangeSet } from '../ipam/range.ts'
import { parseRangeSets } from '../ipam/subnet.ts'
import { findLink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { formatPrefix, type IpPrefix, parsePrefix, prefixesOverlap } from '../wire/ip-address.ts'
import type { BackendName } from './backend.ts'
import { type NetworkPolicy, OPEN_POLICY, samePolicy } from './policy.ts'
import { listLiveNetworks } from './record.ts'
import { listNetworks, networkFolder, readWhole, removeFile, type StateFolder, writeWhole } from './state-folder.ts'

/** Subnets of networks that name none: /22 holds as many containers as a bridge has ports. */
const POOL: readonly IpPrefix[] = ['10.210.0.0/16', '10.211.0.0/16'].map((text) => parsePrefix(text) as IpPrefix)
const POOL_PREFIX_LENGTH = 22
const BRIDGE_NAMES = 'tsnet'
const MOST_BRIDGES = 1000

/** A network as its configuration has it. */
export interface NetworkConfig {
  readonly name: string
  /** Chosen when absent: tsnet0, or the next that is free. */
  readonly bridge?: string
  /** Bytes; the MTU of the bridge, or of the default route's interface when absent. */
  readonly mtu?: number
  readonly isGateway: boolean
  readonly isDefaultGateway: boolean
  readonly ipMasq: boolean
  readonly hairpinMode: boolean
  /** Whether containers may send only what is their own. */
  readonly sourceGuard: boolean
  readonly backend: 'auto' | BackendName
  readonly policy: NetworkPolicy
  /** Empty: a subnet is chosen. An attachment gets one address of each set. */
  readonly rangeSets: readonly RangeSet[]
}

/** A network with everything chosen. */
export interface Network extends NetworkConfig {
  readonly bridge: string
}

/** What `network.json` says. */
export interface NetworkRecord {
  readonly bridge: string
  /** Whether tsnet made the bridge, and so deletes it after the last attachment. */
  readonly createdBridge: boolean
  readonly masquerade: boolean
  readonly gateway: boolean
  /** Absent in records of the first days: as everywhere. */
  readonly policy?: NetworkPolicy
  /** Who writes the rules; absent in records of the first days: iptables. */
  readonly backend?: BackendName
  /** While the rules are on their way out of another backend. */
  readonly leaving?: BackendName
  /** Whether tsnet put the bridge into a zone of firewalld; absent: not. */
  readonly zoned?: boolean
  /** `address/length`. */
  readonly subnets: readonly string[]
  /** Whether an attachment may be guarded, so that the last one looks whether the guard is still used. */
  readonly sourceGuard?: boolean
  /** Whether the subnet was chosen rather than configured. */
  readonly chosen: boolean
  /** Whether loopback addresses were routed out of the bridge, by the person whose it is, before the network came. */
  readonly loopbackRouted?: true
}

export function readNetwork(state: StateFolder, name: string): NetworkRecord | undefined {
  const text = readWhole(networkPath(state, name))
  try {
    return text === undefined ? undefined : (JSON.parse(text) as NetworkRecord)
  } catch {
    return undefined
  }
}

export function writeNetwork(state: StateFolder, name: string, record: NetworkRecord): void {
  writeWhole(networkPath(state, name), `${JSON.stringify(record, undefined, 1)}\n`)
}

export function forgetNetwork(state: StateFolder, name: string): void {
  removeFile(networkPath(state, name))
}

/** @returns Each subnet of the range sets, once. */
export function subnetsOf(rangeSets: readonly RangeSet[]): readonly IpPrefix[] {
  const subnets = new Map(rangeSets.flat().map(({ subnet }) => [formatPrefix(subnet), subnet]))
  return [...subnets.values()]
}

/** @returns The gateway's address in each subnet of the range sets: the bridge's addresses. */
export function gatewaysOf(rangeSets: readonly RangeSet[]): readonly IpPrefix[] {
  const gateways = rangeSets.flat().map(({ gateway, subnet }) => ({ address: gateway, prefixLength: subnet.prefixLength }))
  return [...new Map(gateways.map((prefix) => [formatPrefix(prefix), prefix])).values()]
}

const parsedSubnets = new Map<string, readonly RangeSet[]>()

/** A process that stays asks for the same subnet in every call. */
function chosenRangeSets(subnet: string | undefined): readonly RangeSet[] {
  const parsed = parsedSubnets.get(subnet ?? '') ?? parseRangeSets({ subnet })
  parsedSubnets.set(subnet ?? '', parsed)
  return parsed
}

/** @returns The network as it was set up, when the configuration has not changed since; then nothing need be looked for. */
export function recallNetwork(config: NetworkConfig, known: NetworkRecord | undefined): Network | undefined {
  if (known === undefined || (config.bridge ?? known.bridge) !== known.bridge) return undefined
  const rangeSets = config.rangeSets.length > 0 ? config.rangeSets : known.chosen ? chosenRangeSets(known.subnets[0]) : []
  const wanted = subnetsOf(rangeSets).map(formatPrefix)
  const same =
    wanted.length > 0 &&
    wanted.every((text) => known.subnets.includes(text)) &&
    known.masquerade === config.ipMasq &&
    known.gateway === config.isGateway &&
    samePolicy(known.policy ?? OPEN_POLICY, config.policy) &&
    (known.sourceGuard === true || !config.sourceGuard) &&
    config.backend === (known.backend ?? 'iptables')
  return same ? { ...config, bridge: known.bridge, rangeSets } : undefined
}

/**
 * Chooses bridge and subnet for a network that comes into being. The caller holds the host's lock.
 * @throws TsnetError with CNI code 7 when a subnet is in use by another network or route, or the bridge by another network
 */
export function chooseNetwork(state: StateFolder, rt: NetlinkSocket, config: NetworkConfig): Network {
  const known = readNetwork(state, config.name)
  const others = otherNetworks(state, config.name)
  const bridge = config.bridge ?? known?.bridge ?? freeBridgeName(rt, others)
  const owner = others.find((other) => other.live && other.bridge === bridge)
  if (owner !== undefined)
    throw refuse(
      `Cannot use the bridge "${bridge}" for network "${config.name}": network "${owner.name}" uses it`,
      'Give each network a bridge of its own',
    )
  const routes = onLinkRoutes(rt, bridge)
  const taken = [
    ...routes,
    ...others.filter((other) => other.live).flatMap((other) => other.subnets.map((subnet) => ({ subnet, by: `network "${other.name}"` }))),
  ]
  if (config.rangeSets.length === 0)
    return {
      ...config,
      bridge,
      rangeSets: chooseRangeSets(
        known,
        taken.map(({ subnet }) => subnet),
      ),
    }
  for (const subnet of subnetsOf(config.rangeSets)) {
    const clash = taken.find((other) => prefixesOverlap(other.subnet, subnet))
    if (clash !== undefined) {
      throw refuse(
        `Cannot use the subnet ${formatPrefix(subnet)} for network "${config.name}": it overlaps ${formatPrefix(clash.subnet)} of ${clash.by}`,
        'Give another subnet',
      )
    }
  }
  return { ...config, bridge, rangeSets: config.rangeSets }
}

interface OtherNetwork {
  readonly name: string
  readonly bridge: string
  readonly live: boolean
  readonly subnets: readonly IpPrefix[]
}

function otherNetworks(state: StateFolder, name: string): readonly OtherNetwork[] {
  const live = listLiveNetworks(state)
  return listNetworks(state).flatMap((other) => {
    const record = other === name ? undefined : readNetwork(state, other)
    return record === undefined
      ? []
      : [{ name: other, bridge: record.bridge, live: live.includes(other), subnets: record.subnets.flatMap((text) => parsePrefix(text) ?? []) }]
  })
}

function freeBridgeName(rt: NetlinkSocket, others: readonly OtherNetwork[]): string {
  for (let i = 0; i < MOST_BRIDGES; i++) {
    const name = `${BRIDGE_NAMES}${i}`
    if (!others.some((other) => other.bridge === name) && findLink(rt, name) === undefined) return name
  }
  throw refuse(`Cannot choose a bridge: ${BRIDGE_NAMES}0 to ${BRIDGE_NAMES}${MOST_BRIDGES - 1} are taken`, 'Name a bridge')
}

/** A subnet that was chosen before is kept, so that addresses are not used again too soon. */
function chooseRangeSets(known: NetworkRecord | undefined, taken: readonly IpPrefix[]): readonly RangeSet[] {
  const former = known?.chosen === true ? known.subnets.flatMap((text) => parsePrefix(text) ?? []) : []
  const subnet = former.find((prefix) => !taken.some((other) => prefixesOverlap(other, prefix))) ?? chooseSubnet(POOL, POOL_PREFIX_LENGTH, taken)
  if (subnet === undefined) throw refuse(`Cannot choose a subnet: nothing of ${POOL.map(formatPrefix).join(', ')} is free`, 'Give a subnet')
  return parseRangeSets({ subnet: formatPrefix(subnet) })
}

/** Only on-link routes count: a VPN's route to half the world must not make every subnet a conflict. */
function onLinkRoutes(rt: NetlinkSocket, bridge: string): readonly { readonly subnet: IpPrefix; readonly by: string }[] {
  const own = findLink(rt, bridge)?.index
  return routesOf(rt, 0)
    .filter(
      (route) => route.gateway === undefined && route.destination.prefixLength > 0 && route.outputIndex !== own && !isLinkLocal(route.destination),
    )
    .map((route) => ({ subnet: route.destination, by: `a route out of "${findLink(rt, route.outputIndex)?.ifname ?? route.outputIndex}"` }))
}

/** fe80::/10 and ff00::/8 are on every link. */
export function isLinkLocal({ address }: IpPrefix): boolean {
  return address.family === 6 && (address.value >> 118n === 0x3fan || address.value >> 120n === 0xffn)
}

function networkPath(state: StateFolder, name: string): string {
  return `${networkFolder(state, name)}/network.json`
}

function refuse(message: string, hint: string): TsnetError {
  return new TsnetError('TSNET_NETWORK', message, { cniCode: CNI_CODE.invalidConfig, hint })
}
