/** Brings a network's choices into being: bridge and subnet, written down before the first change to the kernel. */
import { CNI_CODE, TsnetError } from '../error.ts'
import type { Backend } from '../nat/backend.ts'
import type { NetworkRules } from '../nat/model.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { readSysctl } from '../sys/sysctl.ts'
import { formatPrefix } from '../wire/ip-address.ts'
import type { BackendName } from './backend.ts'
import { bridgeAddressesOf, networkRecordOf } from './desired.ts'
import { enterZone, needsZone } from './firewalld.ts'
import { isSet, loopbackSwitch } from './host-switches.ts'
import { chooseNetwork, forgetNetwork, type Network, type NetworkConfig, type NetworkRecord, recallNetwork, writeNetwork } from './network.ts'
import { type ObservedBridge, observeBridge } from './observe.ts'
import { rulesOfNetwork } from './policy.ts'
import { listOwners } from './record.ts'
import { lockHost, type StateFolder } from './state-folder.ts'
import type { UndoStack } from './undo.ts'

export interface EstablishContext {
  readonly state: StateFolder
  readonly backend: Backend
  readonly host: NetlinkSocket
  readonly undo: UndoStack
}

export interface Established extends Disposable {
  readonly network: Network
  readonly record: NetworkRecord
  /** The bridge as it is now, if it is. */
  readonly bridge: ObservedBridge | undefined
  /** Whether it came into being or changed just now, so that nothing in the kernel can be taken for granted. */
  readonly fresh: boolean
  /** Whether this is its only attachment. */
  readonly first: boolean
  /** Rules of the network as it was before its configuration changed. */
  readonly formerRules: readonly NetworkRules[]
  /** The network's record before, when it has attachments whose rules are in another backend. */
  readonly moved: NetworkRecord | undefined
}

/**
 * The caller holds the network's lock, and disposes what it gets when the attachment is complete: until then a new
 * network holds the host's lock, so that no other one chooses the same at the same moment.
 * @param former The network's record as it is now.
 * @throws TsnetError with CNI code 7 when the configuration cannot be had on this host, 50 when tools are missing
 */
export function establish(config: NetworkConfig, former: NetworkRecord | undefined, context: EstablishContext): Established {
  const { state, backend, host, undo } = context
  // A bridge of the person's stays without attachments, and he may have changed it since the last one.
  const begun = former !== undefined && (former.createdBridge || listOwners(state, config.name).length > 0)
  const standing = begun && former.leaving === undefined ? standingNetwork(config, former, host) : undefined
  if (begun && standing !== undefined)
    return { ...standing, record: former, fresh: false, first: false, formerRules: [], moved: undefined, [Symbol.dispose]: () => {} }
  const lock = lockHost(state)
  try {
    const network = chooseNetwork(state, host, config)
    const live = former !== undefined && listOwners(state, config.name).length > 0
    if (live && former.bridge !== network.bridge) throw bridgeChanged(config.name, former.bridge, network.bridge)
    if (network.isGateway) backend.ensureAvailable([...new Set(network.rangeSets.flat().map(({ subnet }) => subnet.address.family))])
    const bridge = observeBridge(host, network.bridge)
    const created = bridge === undefined || (former?.createdBridge === true && former.bridge === network.bridge)
    const drafted = networkRecordOf(network, {
      created,
      chosen: config.rangeSets.length === 0,
      keep: live ? former.subnets : [],
      guarded: live && former.sourceGuard === true,
      backend: backend.name,
      loopbackRouted: live ? former.loopbackRouted === true : !created && routesLoopback(network.bridge),
    })
    const zone = needsZone(drafted)
    const record = { ...drafted, ...((zone || (live && former.zoned)) && { zoned: true }) }
    undo.push('network', () => (former === undefined ? forgetNetwork(state, network.name) : writeNetwork(state, network.name, former)))
    const from = live ? formerBackend(former, backend.name) : undefined
    const moved = live && from !== undefined ? { ...former, backend: from } : undefined
    writeNetwork(state, network.name, from === undefined ? record : { ...record, leaving: from })
    if (zone) enterZone(record, undo)
    const formerRules = live && moved === undefined ? rulesOfNetwork(former) : []
    return { network, record, bridge, fresh: true, first: !live, formerRules, moved, [Symbol.dispose]: () => lock[Symbol.dispose]() }
  } catch (error) {
    lock[Symbol.dispose]()
    throw error
  }
}

function routesLoopback(bridge: string): boolean {
  const loopback = loopbackSwitch(bridge)
  return isSet(loopback, readSysctl(loopback.key))
}

/** @returns The other backend that may hold rules of the network: a move that was killed has left some in both. */
function formerBackend({ backend = 'iptables', leaving }: NetworkRecord, wanted: BackendName): BackendName | undefined {
  return [backend, leaving].find((name) => name !== undefined && name !== wanted)
}

/** @returns The network, unless its configuration has changed since or its bridge is not as it was. */
function standingNetwork(config: NetworkConfig, known: NetworkRecord, host: NetlinkSocket): Pick<Established, 'network' | 'bridge'> | undefined {
  const network = recallNetwork(config, known)
  const bridge = network && observeBridge(host, network.bridge)
  if (network === undefined || bridge === undefined) return undefined
  const present = bridge.addresses.map(formatPrefix)
  return bridgeAddressesOf(network).every((prefix) => present.includes(formatPrefix(prefix))) ? { network, bridge } : undefined
}

function bridgeChanged(name: string, former: string, wanted: string): TsnetError {
  return new TsnetError('TSNET_NETWORK', `Cannot move network "${name}" from bridge "${former}" to "${wanted}": it has attachments`, {
    cniCode: CNI_CODE.invalidConfig,
    hint: 'Detach them first, or keep the bridge',
  })
}
