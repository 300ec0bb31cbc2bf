/** ADD: gives one interface of one container its network, or leaves everything as it was. */
import { existsSync, rmSync } from 'node:fs'
import type { LinkSettings } from '../bridge/link-settings.ts'
import { macToText, randomMac } from '../bridge/mac.ts'
import { defaultRouteMtu, type RouteOptions } from '../bridge/route.ts'
import type { RateLimits } from '../bridge/shaper.ts'
import { findVeth } from '../bridge/veth.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import type { Backend } from '../nat/backend.ts'
import type { PublishedPort } from '../nat/model.ts'
import { claimPorts, releasePorts } from '../nat/port-ledger.ts'
import { forgetAddresses, forgetFormer, forgetSubnets } from '../nat/stale-connections.ts'
import { openRtnetlink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket, Request } from '../netlink/socket.ts'
import { bootId } from '../sys/boot.ts'
import { isOwnNetns, type Netns, within } from '../sys/netns.ts'
import { readSysctl } from '../sys/sysctl.ts'
import { checkTimeLimit } from '../sys/time-limit.ts'
import { apply, indexOf, rememberIndex } from './apply.ts'
import { chooseBackend, liveNetworksOn, withBackend } from './backend.ts'
import { aliasOf, desiredOf } from './desired.ts'
import { detach } from './detach.ts'
import { diff } from './diff.ts'
import { type Established, establish } from './establish.ts'
import type { HostSysctl, Sysctl } from './host-switches.ts'
import { moveRules } from './move-rules.ts'
import { type Network, type NetworkConfig, readNetwork, subnetsOf, writeNetwork } from './network.ts'
import { type ObservedBridge, observeHost } from './observe.ts'
import { hostVethName, type Owner, ownerText } from './owner.ts'
import { hostPortsFor, ledgerOf } from './ports.ts'
import { afterReclaim } from './reclaim.ts'
import {
  type AttachmentRecord,
  listLiveNetworks,
  readRecord,
  recordedAddresses,
  recordedPort,
  recordPort,
  removeRecord,
  writeRecord,
} from './record.ts'
import { hasCompany, settleComing, settleGoing } from './settle.ts'
import { othersHaveSiblings, siblingBridges } from './sibling-networks.ts'
import { siblingsOf } from './siblings.ts'
import { routesBeside, tableOf } from './source-routing.ts'
import { lockNetwork, networkFolder, recordPath, type StateFolder } from './state-folder.ts'
import { SysctlFileChange, type SysctlFileContext } from './sysctl-file.ts'
import { UndoStack } from './undo.ts'
import { acquireAddresses, portsFor, routesFor, type Wishes } from './wishes.ts'

/** MTU of Ethernet, for a host without a default route. */
const ETHERNET_MTU = 1500

export interface AttachRequest extends Wishes {
  readonly containerID: string
  readonly ifname: string
  /** Path of the container's network namespace. */
  readonly netns: string
  /** Whether that may be our own. */
  readonly ownNetnsAllowed: boolean
  readonly network: NetworkConfig
  /** Lower case, colons. */
  readonly mac?: string
  readonly limits?: RateLimits
  /** Kernel parameters of the container, paths below /proc/sys. */
  readonly sysctls?: readonly Sysctl[]
  readonly settings?: LinkSettings
}

export interface PlanContext extends SysctlFileContext {
  /** All that there are. */
  readonly backends: readonly Backend[]
  /** The one of the network that a call is about. */
  readonly backend: Backend
  /** Hears of what could not be taken back, cleaned up or kept. */
  readonly warn: (problem: string) => void
  /** Opens the container's namespace, whose path the request names. The caller owns what it returns. */
  readonly openNetns: (path: string) => Netns
  /** Deletes links of the host, together, by their indexes; they are gone when it returns. One that is gone already is no error. */
  readonly deleteLinks: (host: NetlinkSocket, indexes: readonly number[]) => void
  /** Deletes a bridge that has no port any more, when nothing else is left to be asked of the kernel. Absent: it goes together with the links. */
  readonly deleteBridge?: (host: NetlinkSocket, index: number) => void
  /** Sends what tells the neighbours of a new interface, perhaps when the caller has his answer already. Absent: at once. */
  readonly sendAnnouncement?: ((container: NetlinkSocket, request: Request) => void) | undefined
  /** How long one call may take, milliseconds. */
  readonly timeLimitMs: number
  /** The same for a request that is repeated because its answer was lost; absent where nobody repeats. */
  readonly request?: string
  /** Of a process that serves others too: what waits for strangers is left to one shot (TSNET_RESIDENT). */
  readonly resident?: boolean
}

/** @throws TsnetError when anything failed; then nothing is left of it */
export function attach(request: AttachRequest, caller: PlanContext): AttachmentRecord {
  return afterReclaim(() => attachOnce(request, caller), caller)
}

function attachOnce(request: AttachRequest, caller: PlanContext): AttachmentRecord {
  const { state } = caller
  const owner: Owner = { network: request.network.name, containerID: request.containerID, ifname: request.ifname }
  using netns = caller.openNetns(request.netns)
  refuseOwnNetns(netns, request.ownNetnsAllowed)
  const known = existsSync(networkFolder(state, owner.network))
  using _lock = lockNetwork(state, owner.network)
  const former = readRecord(state, owner)
  // Complete but for its answer, which was lost: the same is answered again.
  if (caller.request !== undefined && former?.state === 'attached' && former.request === caller.request) return former
  using host = openRtnetlink()
  // What is declared after it is closed before it: the steps are taken back over the socket.
  using undo = new UndoStack(caller.warn)
  if (!known) undo.push('network folder', () => rmSync(networkFolder(state, owner.network), { recursive: true, force: true }))
  const sysctlFile = new SysctlFileChange(caller)
  undo.push('sysctl file', () => sysctlFile.takeBack())
  clearFormer(owner, former, { netns, host, context: caller })
  const knownNetwork = readNetwork(state, owner.network)
  const context = withBackend(caller, chooseBackend(request.network, knownNetwork, caller))
  const { backend } = context
  using container = within(netns, openRtnetlink)
  using established = establish({ ...request.network, backend: backend.name }, knownNetwork, { state, backend, host, undo })
  if (established.bridge !== undefined) rememberIndex(host, { name: established.network.bridge, index: established.bridge.index })
  const record = recordWishes(request, established, { host, netns, context, undo })
  const siblings = { records: record.guarded === true ? siblingsOf(state, record) : [], bridges: siblingBridges(owner, container, state) }
  const desired = desiredOf(record, established.record, siblings)
  const { fresh, formerRules, moved } = established
  if (moved !== undefined) {
    const from = withBackend(context, moved.backend).backend
    const last = liveNetworksOn(state, from.name).length === 0
    moveRules(state, { name: owner.network, record: moved }, { from, to: backend, last, undo }, record)
    writeNetwork(state, owner.network, established.record)
  }
  const lastOfBackend = () => liveNetworksOn(state, backend.name).every((live) => live === owner.network)
  const alone = (scope: HostSysctl['scope']) => isAlone(scope, owner, state)
  const addresses = recordedAddresses(record)
  undo.push('connections', () => forgetAddresses(addresses))
  const taken: RouteOptions[] = []
  const withCompany = hasCompany(container, owner.ifname)
  if (withCompany) undo.push('routing by source', () => settleGoing(record, state))
  const onRouteTaken = (route: RouteOptions) => taken.push(route)
  const steps = diff(desired, observeHost(desired, established.bridge))
  if (fresh || steps.some(({ kind }) => kind === 'setHostSysctl')) sysctlFile.ensure(desired.hostSysctls, fresh)
  apply(steps, {
    host,
    container,
    netns,
    undo,
    backend,
    fresh,
    formerRules,
    alone,
    lastOfBackend,
    onRouteTaken,
    sendAnnouncement: context.sendAnnouncement,
    whileRulesAreWritten: () => established.first && forgetSubnets(subnetsOf(established.network.rangeSets)),
  })
  forgetFormer(record.ports.map(recordedPort))
  const table = tableOf(indexOf(container, owner.ifname))
  const finished = { ...record, state: 'attached' as const, routes: routesBeside(record.routes, taken, table), table }
  if (withCompany) settleComing(finished, container, state)
  checkTimeLimit()
  writeRecord(state, finished)
  undo.commit()
  return finished
}

/** A switch of one bridge is guarded by the network's lock. */
function isAlone(scope: HostSysctl['scope'], owner: Owner, state: StateFolder): boolean {
  if (scope === 'host') return listLiveNetworks(state).every((live) => live === owner.network)
  return scope === 'bridge' || !othersHaveSiblings(owner.containerID, state)
}

/** @throws TsnetError TSNET_NETNS, CNI code 8, when the namespace is the one that this process is in */
export function refuseOwnNetns(netns: Netns, allowed: boolean): void {
  if (allowed || !isOwnNetns(netns)) return
  throw new TsnetError('TSNET_NETNS', `Cannot use the network namespace "${netns.path}": it is the one that tsnet runs in`, {
    cniCode: CNI_CODE.invalidNetns,
    hint: 'Give the container a network namespace of its own',
  })
}

interface Coming {
  readonly netns: Netns
  readonly host: NetlinkSocket
  readonly context: PlanContext
}

/** An ADD that was killed, or a container that died without DEL, must not keep its successor from starting. */
function clearFormer(owner: Owner, former: AttachmentRecord | undefined, { netns, host, context }: Coming): void {
  const link = findVeth(host, hostVethName(owner), aliasOf(owner))
  if (former === undefined && link === undefined && !existsSync(recordPath(context.state, owner))) return
  if (former?.state === 'attached' && former.netns.inode === netns.inode && former.bootId === bootId() && link !== undefined) {
    throw new TsnetError('TSNET_INTERFACE_TAKEN', `Cannot attach "${ownerText(owner)}": it is attached already`, {
      cniCode: CNI_CODE.interfaceTaken,
      hint: 'Detach it first, or give another interface name',
    })
  }
  detach(owner, { ...context, locked: true })
}

interface Recording {
  readonly host: NetlinkSocket
  readonly netns: Netns
  readonly context: PlanContext
  readonly undo: UndoStack
}

/** The record is there before the first lease, so that whatever a kill leaves behind has a name that DEL and GC can look for. */
function recordWishes(request: AttachRequest, { network, bridge }: Established, { host, netns, context, undo }: Recording): AttachmentRecord {
  const { state } = context
  const draft = draftRecord(request, network, { host, netns, bridge, context })
  undo.push('record', () => removeRecord(state, draft))
  writeRecord(state, draft)
  const addresses = acquireAddresses(draft, network, { wishes: request.addresses, state, undo })
  const addressed = { ...draft, addresses, routes: routesFor(request, network, addresses) }
  return claim(addressed, request.ports, { network, context, undo })
}

interface Surroundings extends Pick<Recording, 'host' | 'netns' | 'context'> {
  readonly bridge: ObservedBridge | undefined
}

function draftRecord(request: AttachRequest, network: Network, { host, netns, bridge, context }: Surroundings): AttachmentRecord {
  const owner = { network: network.name, containerID: request.containerID, ifname: request.ifname }
  return {
    format: 1,
    state: 'adding',
    ...owner,
    netns: { path: netns.path, inode: netns.inode },
    bootId: bootId(),
    ...(context.request !== undefined && { request: context.request }),
    created: new Date().toISOString(),
    bridge: network.bridge,
    hostVeth: hostVethName(owner),
    hairpin: network.hairpinMode,
    // Where the kernel lets frames that stay on a bridge pass the rules, these keep containers apart, and know published ports.
    ...(!network.policy.icc && readSysctl('net/bridge/bridge-nf-call-iptables') === undefined && { isolated: true }),
    ...(network.policy.routed && { direct: true }),
    ...(network.sourceGuard && { guarded: true }),
    ...(request.limits && { limits: request.limits }),
    ...(request.sysctls && { sysctls: request.sysctls }),
    ...(request.settings && { settings: request.settings }),
    mtu: network.mtu ?? bridge?.mtu ?? defaultRouteMtu(host) ?? ETHERNET_MTU,
    mac: request.mac ?? macToText(randomMac()),
    hostMac: macToText(randomMac()),
    bridgeMac: macToText(bridge?.mac ?? randomMac()),
    addresses: [],
    routes: [],
    ports: [],
  }
}

interface Claiming extends Pick<Recording, 'context' | 'undo'> {
  readonly network: Network
}

/** @returns The record, written down with the ports that are its own: another interface of the container may have some of them already. */
function claim(record: AttachmentRecord, wished: Wishes['ports'], { network, context, undo }: Claiming): AttachmentRecord {
  const wishes = portsFor(wished, { ...record, internal: network.policy.internal })
  const ledger = ledgerOf(context.state)
  let claimed = record
  undo.push('ports', () => releasePorts(ledger, ownerText(record), claimed.ports.map(recordedPort)))
  const onChosen = (ports: readonly PublishedPort[]) => {
    claimed = { ...record, ports: ports.map(recordPort) }
    writeRecord(context.state, claimed)
  }
  claimPorts(ledger, ownerText(record), { wishes, host: hostPortsFor(record), onChosen })
  return claimed
}
