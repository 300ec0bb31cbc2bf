/** DEL: takes back what an ADD did, complete or not, as far as it still exists; goes on after errors and reports them together. */
import { existsSync } from 'node:fs'
import { findBridge } from '../bridge/bridge.ts'
import { deleteDetour, findDetour } from '../bridge/shaper.ts'
import { findVeth } from '../bridge/veth.ts'
import { ErrorList, isErrno, TsnetError } from '../error.ts'
import { leaseOwner } from '../ipam/lease.ts'
import type { RuleChange } from '../nat/backend.ts'
import { releasePorts } from '../nat/port-ledger.ts'
import { dropUnusedGuard, unguardOwner, unguardSources } from '../nat/source-guard/guard.ts'
import { forgetAddresses } from '../nat/stale-connections.ts'
import { listLinks, type ObservedLink, openRtnetlink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { Family, IpAddress } from '../wire/ip-address.ts'
import { openBook } from './address-book.ts'
import type { PlanContext } from './attach.ts'
import { liveNetworksOn, withBackend } from './backend.ts'
import { aliasOf } from './desired.ts'
import { leaveZone } from './firewalld.ts'
import { answersOnLoopback } from './host-switches.ts'
import { closeLoopback } from './loopback-ports.ts'
import { type NetworkRecord, readNetwork } from './network.ts'
import { detourName, hostVethName, type Owner, ownerMarkText, ownerText } from './owner.ts'
import { rulesOfAttachment, rulesOfNetwork } from './policy.ts'
import { heldPorts, ledgerOf } from './ports.ts'
import { type AttachmentRecord, listOwners, readRecord, recordedAddresses, removeRecord } from './record.ts'
import { settleGoing } from './settle.ts'
import { siblingsOf } from './siblings.ts'
import { guardOf } from './source-guard.ts'
import { lockHost, lockNetwork, networkFolder, recordPath } from './state-folder.ts'
import { rewriteSysctlFile, writeSysctlFile } from './sysctl-file.ts'

export interface DetachContext extends PlanContext {
  /** Whether the caller holds the network's lock. */
  readonly locked?: boolean
}

/**
 * @returns Whether there was anything of the attachment.
 * @throws ErrorList when something could not be removed; its record then stays, so that the next DEL or GC tries again
 */
export function detach(owner: Owner, context: DetachContext): boolean {
  const { state } = context
  using host = openRtnetlink()
  // The link's name follows from the owner: it is found even when somebody deleted the whole state folder.
  if (!existsSync(networkFolder(state, owner.network)) && findVeth(host, hostVethName(owner), aliasOf(owner)) === undefined) return false
  using _lock = context.locked === true ? undefined : lockNetwork(state, owner.network)
  const record = readRecord(state, owner)
  if (record === undefined && !existsSync(recordPath(state, owner))) return detachUnrecorded(owner, host, context)
  const last = isLast(owner, context)
  // Two networks that end at once would each leave what they share to the other.
  using _hostLock = last ? lockHost(state) : undefined
  const known = readNetwork(state, owner.network)
  const network = last ? known : undefined
  const own = withBackend(context, known?.backend)
  const errors = new Attempts()
  if (known?.leaving !== undefined) errors.try(() => finishLeaving(owner, { record, network, host, context: withBackend(context, known.leaving) }))
  errors.try(() => removeKernelObjects(owner, { record, network, host, context: own }))
  // Whoever got the address or the port next would share it with what is still there.
  const vacated = errors.isEmpty
  errors.try(() => record && settleGoing(record, state))
  const mayAnswer = record === undefined || answersOnLoopback(heldPorts(record))
  const closed = errors.try(() => mayAnswer && closeLoopback(owner, context))
  errors.try(() => forgetAddresses(heldAddresses(owner, record, context)))
  errors.try(() => network && deleteBridgeApart(network, host, context))
  errors.try(() => vacated && releaseLeases(owner, record, context))
  errors.try(() => vacated && record && releaseClaims(record, context))
  errors.finish(`Cannot detach "${ownerText(owner)}"`)
  if (last) writeSysctlFile({ except: owner.network }, context)
  else if (closed === true) rewriteSysctlFile(context)
  removeRecord(state, owner)
  return true
}

/**
 * Deletes the host's ends of several attachments at a time, for which the kernel waits once; each one's DEL is still to come.
 * @returns How many were deleted; none when there is only one
 */
export function deleteVeths(owners: readonly Owner[], { deleteLinks }: Pick<PlanContext, 'deleteLinks'>): number {
  using host = openRtnetlink()
  const indexes = owners.flatMap((owner) => findVeth(host, hostVethName(owner), aliasOf(owner))?.index ?? [])
  if (indexes.length < 2) return 0
  deleteLinks(host, indexes)
  return indexes.length
}

/** Without a record an ADD has at most acquired its leases; anything else is a record that somebody deleted. */
function detachUnrecorded(owner: Owner, host: NetlinkSocket, context: DetachContext): boolean {
  const errors = new Attempts()
  // A kill while the record was written: this one has kept others from being the last.
  const begun = listOwners(context.state, owner.network).some((other) => ownerText(other) === ownerText(owner))
  errors.try(() => removeRecord(context.state, owner))
  const link = findVeth(host, hostVethName(owner), aliasOf(owner))
  const addresses = errors.try(() => heldAddresses(owner, undefined, context)) ?? []
  const known = link !== undefined || addresses.length > 0
  if (known) errors.try(() => removeMarked(owner, context))
  if (link !== undefined) errors.try(() => context.deleteLinks(host, [link.index]))
  if (link !== undefined) errors.try(() => deleteDetour(host, detourName(owner)))
  const vacated = errors.isEmpty
  errors.try(() => link && closeLoopback(owner, context))
  if (begun || known) errors.try(() => removeIdleNetwork(owner.network, host, context))
  if (known) errors.try(() => rewriteSysctlFile(context))
  errors.try(() => forgetAddresses(addresses))
  errors.try(() => vacated && releaseLeases(owner, undefined, context))
  errors.finish(`Cannot detach "${ownerText(owner)}"`)
  return begun || known
}

/** Whichever backend wrote them. */
function removeMarked(owner: Owner, context: PlanContext): void {
  const errors = new Attempts()
  for (const backend of context.backends) errors.try(() => backend.removeOwner(ownerMarkText(owner)))
  errors.try(() => unguardOwner({ owner: ownerMarkText(owner), name: hostVethName(owner) }, true))
  errors.finish('Cannot remove the rules')
}

/** A kill while the rules moved to another backend has left some in the former one. */
function finishLeaving(owner: Owner, { network, context }: Removal): void {
  context.backend.removeOwner(ownerMarkText(owner))
  if (network !== undefined) context.backend.startChange({ remove: { networks: rulesOfNetwork(network), attachments: [] }, base: 'drop' }).finish()
}

interface Removal {
  readonly record: AttachmentRecord | undefined
  /** The network, when this is its last attachment. */
  readonly network: NetworkRecord | undefined
  readonly host: NetlinkSocket
  readonly context: DetachContext
}

/** The rules are written by another process while this one waits for the kernel to let go of the links. */
function removeKernelObjects(owner: Owner, { record, network, host, context }: Removal): void {
  const errors = new Attempts()
  // First, since a published port that nobody knows would keep the shared chains in use.
  if (record === undefined) errors.try(() => removeMarked(owner, context))
  const pending = errors.try(() => context.backend.startChange(removalOf(owner, { record, network, context })))
  errors.try(() => deleteOwnLinks(owner, { record, network, host, context }))
  errors.try(() => network && leaveZone(network))
  // Behind the links, so that the container never sends without it.
  errors.try(() => removeGuard(owner, { record, network, host, context }))
  errors.try(() => pending?.finish())
  errors.finish('Cannot remove what the kernel holds')
}

function removalOf(owner: Owner, { record, network, context }: Omit<Removal, 'host'>): RuleChange {
  const remove = {
    networks: network === undefined ? [] : rulesOfNetwork(network),
    attachments: record === undefined ? [] : [rulesOfAttachment(record, heldPorts(record))],
  }
  return network === undefined ? { remove, base: 'keep' } : { remove, base: 'drop', dropIn: idleFamilies(owner.network, context) }
}

/** Without a record, or with one that may not be complete, it goes with all else that is marked. */
function removeGuard(owner: Owner, { record, network, context }: Removal): void {
  const last = network !== undefined
  if (record?.guarded === true && record.state === 'adding') unguardOwner({ owner: ownerMarkText(owner), name: record.hostVeth }, last)
  else if (record?.guarded === true) unguardSources(() => guardOf(record, siblingsOf(context.state, record)), last)
  else if (network?.sourceGuard === true) dropUnusedGuard()
}

/** Deletes bridge and rules of a network without attachments, for when the last DEL did not get so far. */
export function removeIdleNetwork(name: string, host: NetlinkSocket, caller: PlanContext): void {
  const network = listOwners(caller.state, name).length === 0 ? readNetwork(caller.state, name) : undefined
  if (network === undefined || findBridge(host, network.bridge) === undefined) return
  const context = withBackend(caller, network.backend)
  using _hostLock = lockHost(context.state)
  const remove = { networks: rulesOfNetwork(network), attachments: [] }
  const drop = (from: PlanContext) => from.backend.startChange({ remove, base: 'drop', dropIn: idleFamilies(name, from) })
  if (network.leaving !== undefined) drop(withBackend(caller, network.leaving)).finish()
  const pending = drop(context)
  const bridge = findOwnBridge(network, host)
  if (bridge !== undefined) context.deleteLinks(host, [bridge.index])
  leaveZone(network)
  if (network.sourceGuard === true) dropUnusedGuard()
  pending.finish()
  writeSysctlFile({ except: name }, context)
}

/** Veth, bridge and detour go together as far as they go, since the kernel then waits once for all; but the bridge where it goes last. */
function deleteOwnLinks(owner: Owner, { record, network, host, context }: Removal): void {
  const veth = findVeth(host, hostVethName(owner), aliasOf(owner))
  const bridge = network && context.deleteBridge === undefined ? findOwnBridge(network, host, veth?.index) : undefined
  const detour = record === undefined || record.limits?.egress !== undefined ? findDetour(host, detourName(owner)) : undefined
  context.deleteLinks(
    host,
    [veth, bridge, detour].flatMap((link) => link?.index ?? []),
  )
}

/** The kernel holds its lock for so long meanwhile that what is asked of it afterwards would wait. */
function deleteBridgeApart(network: NetworkRecord, host: NetlinkSocket, { deleteBridge }: PlanContext): void {
  const bridge = deleteBridge && findOwnBridge(network, host)
  if (bridge !== undefined) deleteBridge?.(host, bridge.index)
}

/** @returns The bridge, if tsnet made it and nothing but the link with index `port` hangs on it: somebody may have added a port of his own. */
function findOwnBridge(network: NetworkRecord, host: NetlinkSocket, port?: number): ObservedLink | undefined {
  const bridge = network.createdBridge ? findBridge(host, network.bridge) : undefined
  return bridge && listLinks(host).every(({ index, master }) => master !== bridge.index || index === port) ? bridge : undefined
}

/** @returns The addresses under which others may have connections with the attachment: leases come before the record names them. */
function heldAddresses(owner: Owner, record: AttachmentRecord | undefined, context: DetachContext): readonly IpAddress[] {
  if (record !== undefined) return recordedAddresses(record)
  using store = openBook(context.state, owner.network)
  return store?.leasesOf(leaseOwner(owner.containerID, owner.ifname)) ?? []
}

function releaseLeases(owner: Owner, record: AttachmentRecord | undefined, context: DetachContext): void {
  using store = openBook(context.state, owner.network)
  const holder = leaseOwner(owner.containerID, owner.ifname)
  if (record === undefined || record.state === 'adding') store?.releaseAll(holder)
  else for (const address of recordedAddresses(record)) store?.release(holder, address)
}

/** On a full disk they stay: once the record is gone they count for nothing. */
function releaseClaims(record: AttachmentRecord, { state }: DetachContext): void {
  try {
    releasePorts(ledgerOf(state), ownerText(record), heldPorts(record))
  } catch (error) {
    if (!(error instanceof TsnetError && isErrno(error.cause, 'ENOSPC', 'EDQUOT'))) throw error
  }
}

function isLast(owner: Owner, context: DetachContext): boolean {
  return listOwners(context.state, owner.network).every((other) => other.containerID === owner.containerID && other.ifname === owner.ifname)
}

/** @returns The families in which no other network has an attachment: the last one with IPv6 may end before the last of all. */
function idleFamilies(name: string, { state, backend }: PlanContext): readonly Family[] {
  const others = liveNetworksOn(state, backend.name).filter((live) => live !== name)
  const subnets = others.flatMap((other) => readNetwork(state, other)?.subnets ?? ['0.0.0.0/0', '::/0'])
  return ([4, 6] as const).filter((family) => !subnets.some((subnet) => subnet.includes(':') === (family === 6)))
}

/** Gathers errors, so that one failure does not keep the rest from being cleaned up. */
export class Attempts {
  readonly #errors: unknown[] = []

  try<T>(act: () => T): T | undefined {
    try {
      return act()
    } catch (error) {
      this.#errors.push(error)
      return undefined
    }
  }

  get isEmpty(): boolean {
    return this.#errors.length === 0
  }

  /** @throws ErrorList with all that went wrong */
  finish(message: string): void {
    if (this.#errors.length > 0) throw new ErrorList(message, this.#errors)
  }
}
