/** ADD: gives one interface of one container its network, or leaves everything as it was. */
import { existsSync, rmSync } from 'node:fs'
import { defaultRouteMtu } from '../bridge/route.ts'
import { findVeth } from '../bridge/veth.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { leaseOwner } from '../ipam/lease.ts'
import { openSubnet } from '../ipam/open-subnet.ts'
import { type RangeSet, rangeWith } from '../ipam/range.ts'
import type { Backend } from '../nat/backend.ts'
import { formatHostPort, type Protocol, type PublishedPort, portsConflict } from '../nat/model.ts'
import { claimPorts, releasePorts } from '../nat/port-ledger.ts'
import { forgetConnections } from '../nat/stale-connections.ts'
import { findLink, openRtnetlink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { bootId } from '../sys/boot.ts'
import { type Netns, openNetns, openOwnNetns, within } from '../sys/netns.ts'
import { containsAddress, formatAddress, formatPrefix, type IpAddress, parsePrefix } from '../wire/ip-address.ts'
import { apply } from './apply.ts'
import { aliasOf, bridgeAddressesOf, desiredOf, macToText, networkRecordOf } from './desired.ts'
import { detach } from './detach.ts'
import { diff } from './diff.ts'
import { chooseNetwork, forgetNetwork, type Network, type NetworkConfig, readNetwork, recallNetwork, writeNetwork } from './network.ts'
import { observeBridge, observeHost } from './observe.ts'
import { hostVethName, type Owner, ownerText } from './owner.ts'
import { ledgerOf } from './ports.ts'
import {
  type AttachmentRecord,
  listLiveNetworks,
  type RecordedAddress,
  type RecordedRoute,
  readRecord,
  recordedPort,
  recordPort,
  removeRecord,
  writeRecord,
} from './record.ts'
import { lockHost, lockNetwork, networkFolder, type StateFolder } from './state-folder.ts'
import { UndoStack } from './undo.ts'

/** MTU of Ethernet, for a host without a default route. */
const ETHERNET_MTU = 1500

/** A port as the caller wants it; without an address it is published in every family that the attachment has. */
export interface PortWish {
  readonly hostPort: number
  readonly containerPort: number
  readonly count: number
  readonly protocol: Protocol
  /** 0.0.0.0 and :: stand for every address of that family. */
  readonly hostIP?: IpAddress
}

export interface AttachRequest {
  readonly containerID: string
  readonly ifname: string
  /** Path of the container's network namespace. */
  readonly netns: string
  /** Whether that may be our own. */
  readonly ownNetnsAllowed: boolean
  readonly network: NetworkConfig
  /** Lower case, colons. */
  readonly mac?: string
  /** Wished addresses, at most one for each range set. */
  readonly addresses: readonly { readonly address: IpAddress }[]
  readonly routes: readonly RecordedRoute[]
  readonly ports: readonly PortWish[]
}

export interface PlanContext {
  readonly state: StateFolder
  readonly backend: Backend
  /** Hears of what could not be taken back or cleaned up. */
  readonly warn: (problem: string) => void
}

/** @throws TsnetError when anything failed; then nothing is left of it */
export function attach(request: AttachRequest, context: PlanContext): AttachmentRecord {
  const owner: Owner = { network: request.network.name, containerID: request.containerID, ifname: request.ifname }
  using netns = openNetns(request.netns)
  refuseOwnNetns(netns, request.ownNetnsAllowed)
  const known = existsSync(networkFolder(context.state, owner.network))
  using _lock = lockNetwork(context.state, owner.network)
  using undo = new UndoStack(context.warn)
  if (!known) undo.push('network folder', () => rmSync(networkFolder(context.state, owner.network), { recursive: true, force: true }))
  clearFormer(owner, netns, context)
  using host = openRtnetlink()
  using container = within(netns, openRtnetlink)
  const recalled = recall(request.network, host, context)
  // A network that comes into being must not choose what another one chooses at the same moment.
  using _hostLock = recalled === undefined ? lockHost(context.state) : undefined
  const network = recalled ?? establish(request, host, context, undo)
  const draft = draftRecord(request, network, { host, netns })
  const leased = acquire(owner, network, { wishes: request.addresses, context, undo })
  const record: AttachmentRecord = {
    ...draft,
    addresses: leased,
    routes: routesFor(request, network, leased),
    ports: portsFor(request, network, leased).map(recordPort),
  }
  undo.push('record', () => removeRecord(context.state, owner))
  writeRecord(context.state, record)
  claim(owner, record, context, undo)
  const chosen = readNetwork(context.state, owner.network)
  if (chosen === undefined)
    throw new TsnetError('TSNET_STATE', `Cannot read what was chosen for network "${owner.network}"`, { cniCode: CNI_CODE.io })
  const desired = desiredOf(record, chosen)
  const base = recalled === undefined ? 'ensure' : 'keep'
  const alone = () => listLiveNetworks(context.state).every((live) => live === owner.network)
  apply(diff(desired, observeHost(host, desired)), { host, container, netns, undo, backend: context.backend, base, alone })
  forgetConnections(record.ports.map(recordedPort), 'current')
  const finished = { ...record, state: 'attached' as const, ...observedMacs(host, container, record) }
  writeRecord(context.state, finished)
  undo.commit()
  return finished
}

function refuseOwnNetns(netns: Netns, allowed: boolean): void {
  using own = openOwnNetns()
  if (own.inode !== netns.inode || allowed) return
  throw new TsnetError('TSNET_NETNS', `Cannot use the network namespace "${netns.path}": it is the one that tsnet runs in`, {
    cniCode: CNI_CODE.invalidNetns,
    hint: 'Give the container a network namespace of its own',
  })
}

/** An ADD that was killed, or a container that died without DEL, must not keep its successor from starting. */
function clearFormer(owner: Owner, netns: Netns, context: PlanContext): void {
  const former = readRecord(context.state, owner)
  if (former === undefined) return
  using host = openRtnetlink()
  const alive =
    former.state === 'attached' &&
    former.netns.inode === netns.inode &&
    former.bootId === bootId() &&
    findVeth(host, former.hostVeth, aliasOf(former)) !== undefined
  if (alive) {
    throw new TsnetError('TSNET_INTERFACE_TAKEN', `Cannot attach "${ownerText(owner)}": it is attached already`, {
      cniCode: CNI_CODE.interfaceTaken,
      hint: 'Detach it first, or give another interface name',
    })
  }
  detach(owner, { ...context, locked: true })
}

/** @returns The network as it stands, or undefined when it is new, changed, or has lost its bridge. */
function recall(config: NetworkConfig, host: NetlinkSocket, context: PlanContext): Network | undefined {
  const network = recallNetwork(config, readNetwork(context.state, config.name))
  const bridge = network && observeBridge(host, network.bridge)
  const present = bridge?.addresses.map(formatPrefix)
  return network !== undefined && bridgeAddressesOf(network).every((prefix) => present?.includes(formatPrefix(prefix))) && bridge !== undefined
    ? network
    : undefined
}

/** Chooses what the configuration leaves open and writes it down before the first change to the kernel. */
function establish(request: AttachRequest, host: NetlinkSocket, context: PlanContext, undo: UndoStack): Network {
  const { state, backend } = context
  const network = chooseNetwork(state, host, request.network)
  if (network.isGateway) backend.ensureAvailable([...new Set(network.rangeSets.flat().map(({ subnet }) => subnet.address.family))])
  const former = readNetwork(state, network.name)
  const existed = observeBridge(host, network.bridge) !== undefined
  const created = !existed || (former?.createdBridge === true && former.bridge === network.bridge)
  undo.push('network', () => (former === undefined ? forgetNetwork(state, network.name) : writeNetwork(state, network.name, former)))
  writeNetwork(state, network.name, networkRecordOf(network, created, request.network.rangeSets.length === 0))
  return network
}

function draftRecord(request: AttachRequest, network: Network, kernel: { readonly host: NetlinkSocket; readonly netns: Netns }): AttachmentRecord {
  const owner = { network: network.name, containerID: request.containerID, ifname: request.ifname }
  const mtu = network.mtu ?? observeBridge(kernel.host, network.bridge)?.mtu ?? defaultRouteMtu(kernel.host) ?? ETHERNET_MTU
  return {
    format: 1,
    state: 'adding',
    ...owner,
    netns: { path: kernel.netns.path, inode: kernel.netns.inode },
    bootId: bootId(),
    created: new Date().toISOString(),
    bridge: network.bridge,
    hostVeth: hostVethName(owner),
    hairpin: network.hairpinMode,
    mtu,
    ...(request.mac !== undefined && { mac: request.mac }),
    addresses: [],
    routes: [],
    ports: [],
  }
}

interface Acquisition {
  readonly wishes: AttachRequest['addresses']
  readonly context: PlanContext
  readonly undo: UndoStack
}

/** One address of each range set. A wish that no set could fulfil is refused. */
function acquire(owner: Owner, network: Network, { wishes, context, undo }: Acquisition): readonly RecordedAddress[] {
  const stray = wishes.find(({ address }) => !network.rangeSets.some((set) => belongsTo(set, address)))
  if (stray !== undefined) {
    throw new TsnetError(
      'TSNET_REQUESTED_ADDRESS',
      `Cannot hand out ${formatAddress(stray.address)}: it is in no range of network "${network.name}"`,
      { cniCode: CNI_CODE.invalidConfig },
    )
  }
  const holder = leaseOwner(owner.containerID, owner.ifname)
  const options = { folder: networkFolder(context.state, network.name), network: network.name, rangeSets: network.rangeSets }
  undo.push('leases', () => {
    using store = openSubnet(options)
    store.releaseAll(holder)
  })
  using store = openSubnet(options)
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
function routesFor(request: AttachRequest, network: Network, addresses: readonly RecordedAddress[]): readonly RecordedRoute[] {
  const gatewayOf = (dst: string) => addresses.find(({ address }) => address.includes(':') === dst.includes(':'))?.gateway
  const configured = request.routes.map((route) => {
    const gw = route.gw ?? gatewayOf(route.dst)
    return { ...route, ...(gw !== undefined && { gw }) }
  })
  const defaults = network.isDefaultGateway
    ? addresses.flatMap(({ address, gateway }) => (gateway === undefined ? [] : [{ dst: address.includes(':') ? '::/0' : '0.0.0.0/0', gw: gateway }]))
    : []
  return [...defaults.filter(({ dst }) => !configured.some((route) => route.dst === dst)), ...configured]
}

/** @throws TsnetError with CNI code 7 for two wishes of the same port, or one that no address of the attachment can serve */
function portsFor(request: AttachRequest, network: Network, addresses: readonly RecordedAddress[]): readonly PublishedPort[] {
  const targets = addresses.map(({ address }) => parseHost(address))
  const ports = request.ports.flatMap(({ hostIP, ...wish }) => {
    const fitting = targets.filter((address) => hostIP === undefined || hostIP.family === address.family)
    const hostAddress = hostIP === undefined || hostIP.value === 0n ? undefined : hostIP
    if (fitting.length === 0 || !network.isGateway) {
      throw refusePort(
        `Cannot publish port ${wish.hostPort}: ${network.isGateway ? `the attachment has no IPv${hostIP?.family ?? 4} address` : 'the bridge is no gateway'}`,
      )
    }
    return fitting.map((address) => ({ ...wish, ...(hostAddress && { hostAddress }), address }))
  })
  for (const [i, port] of ports.entries()) {
    const twin = ports.slice(0, i).find((other) => portsConflict(other, port))
    if (twin !== undefined) throw refusePort(`Cannot publish ${formatHostPort(port)}: the request publishes ${formatHostPort(twin)} too`)
  }
  return ports
}

function claim(owner: Owner, record: AttachmentRecord, context: PlanContext, undo: UndoStack): void {
  const ports = record.ports.map(recordedPort)
  context.backend.ensureAvailable([...new Set(ports.map(({ address }) => address.family))])
  const ledger = ledgerOf(context.state)
  undo.push('ports', () => releasePorts(ledger, ownerText(owner), ports))
  claimPorts(ledger, ownerText(owner), ports)
}

function observedMacs(
  host: NetlinkSocket,
  container: NetlinkSocket,
  record: AttachmentRecord,
): Pick<AttachmentRecord, 'mac' | 'hostMac' | 'bridgeMac'> {
  const mac = (rt: NetlinkSocket, name: string) => macToText(findLink(rt, name)?.address ?? new Uint8Array())
  return { mac: mac(container, record.ifname), hostMac: mac(host, record.hostVeth), bridgeMac: mac(host, record.bridge) }
}

function parseHost(address: string): IpAddress {
  const prefix = parsePrefix(address)
  if (prefix === undefined) throw new TypeError(`${JSON.stringify(address)} is no address with a prefix length`)
  return prefix.address
}

function refusePort(message: string): TsnetError {
  return new TsnetError('TSNET_CONFIG', message, { cniCode: CNI_CODE.invalidConfig })
}
