/**
 * Changes which ports of a running attachment are published. A kill at any point leaves a record that names all of which
 * something may be there: DEL and GC remove it, and the next change completes a withdrawal that was cut short.
 */
import { CNI_CODE, TsnetError } from '../error.ts'
import type { RuleChange } from '../nat/backend.ts'
import { formatHostPort, type PublishedPort, portsConflict, targetsOverlap } from '../nat/model.ts'
import { claimPorts, releasePorts } from '../nat/port-ledger.ts'
import { forgetFormer, forgetWithdrawn } from '../nat/stale-connections.ts'
import { checkTimeLimit } from '../sys/time-limit.ts'
import type { PlanContext } from './attach.ts'
import { withBackend } from './backend.ts'
import { answersOnLoopback } from './host-switches.ts'
import { closeLoopback, openLoopback } from './loopback-ports.ts'
import { readNetwork } from './network.ts'
import { type Owner, ownerText } from './owner.ts'
import { rulesOfAttachment, rulesOfNetwork } from './policy.ts'
import { hostPortsFor, ledgerOf } from './ports.ts'
import { afterReclaim } from './reclaim.ts'
import { type AttachmentRecord, type RecordedPort, readRecord, recordedPort, recordPort, writeRecord } from './record.ts'
import { lockNetwork } from './state-folder.ts'
import { rewriteSysctlFile } from './sysctl-file.ts'
import { UndoStack } from './undo.ts'
import { type PortWish, portsFor } from './wishes.ts'

/**
 * Publishes more ports, all or none. One that is published already in just this way stays, and its rules are made good.
 * @returns The ports of the wishes, each with its number
 * @throws TsnetError with CNI code 3 for an attachment that is not complete, 103 for a port that somebody has, 11 when none is free
 */
export function publishPorts(owner: Owner, wishes: readonly PortWish[], caller: PlanContext): readonly RecordedPort[] {
  return afterReclaim(() => publishOnce(owner, wishes, caller), caller)
}

function publishOnce(owner: Owner, wishes: readonly PortWish[], caller: PlanContext): readonly RecordedPort[] {
  using _lock = lockAttached(owner, caller)
  const network = readNetwork(caller.state, owner.network)
  const context = withBackend(caller, network?.backend)
  const record = completeWithdrawal(attachedRecord(owner, context), context)
  const groups = portsFor(wishes, { ...record, internal: network?.policy?.internal === true })
  const standing = record.ports.map(recordedPort)
  const again = groups.flat().filter((port) => standing.some((other) => isSame(other, port)))
  const fresh = groups.map((group) => group.filter((port) => !again.includes(port))).filter((group) => group.length > 0)
  refuseOverlap(record, fresh.flat(), standing)
  using undo = new UndoStack(context.warn)
  const added = claim(record, fresh, { context, undo })
  const ports = [...again, ...added]
  openLoopback(owner.network, ports, { ...context, undo })
  undo.push('connections', () => forgetWithdrawn(added))
  undo.push('rules', () => context.backend.startChange({ remove: rulesOf(record, added), base: 'keep' }).finish())
  const expect = { networks: network === undefined ? [] : rulesOfNetwork(network), attachments: [] }
  // A person waits for this one: the rules are read, so that what is there is not written twice.
  context.backend.startChange({ add: rulesOf(record, ports), expect, base: 'ensure' }).finish()
  forgetFormer(added)
  checkTimeLimit()
  undo.commit()
  return ports.map(recordPort)
}

/**
 * Withdraws the ports that are chosen. New connections are refused from then on, those that stand are cut off.
 * @returns The ports that were withdrawn
 * @throws TsnetError with CNI code 3 for an attachment that is not complete, or when rules could not be removed; then the next change, or DEL, does it
 */
export function withdrawPorts(owner: Owner, isChosen: (port: RecordedPort) => boolean, caller: PlanContext): readonly RecordedPort[] {
  using _lock = lockAttached(owner, caller)
  const context = withBackend(caller, readNetwork(caller.state, owner.network)?.backend)
  const record = attachedRecord(owner, context)
  const chosen = record.ports.filter(isChosen)
  const leaving = [...(record.leaving ?? []), ...chosen]
  const shrunk = { ...record, ports: record.ports.filter((port) => !chosen.includes(port)), leaving }
  if (chosen.length > 0) writeRecord(context.state, shrunk)
  completeWithdrawal(shrunk, context)
  return chosen
}

/** Rules first: while they are there, the port must not be somebody else's. */
function completeWithdrawal(record: AttachmentRecord, context: PlanContext): AttachmentRecord {
  const { leaving = [], ...rest } = record
  if (leaving.length === 0) return rest
  const ports = leaving.map(recordedPort)
  const change: RuleChange = { remove: rulesOf(record, ports), base: 'keep' }
  context.backend.startChange(change).finish()
  const former = readNetwork(context.state, record.network)?.leaving
  // A move that was killed has left rules there.
  if (former !== undefined) withBackend(context, former).backend.startChange(change).finish()
  const closes = answersOnLoopback(ports) && !answersOnLoopback(rest.ports.map(recordedPort))
  if (closes && closeLoopback(record, context)) rewriteSysctlFile(context)
  forgetWithdrawn(ports)
  releasePorts(ledgerOf(context.state), ownerText(record), ports)
  writeRecord(context.state, rest)
  return rest
}

interface Claiming {
  readonly context: PlanContext
  readonly undo: UndoStack
}

/** The record names the ports before the ledger does, and longer. */
function claim(record: AttachmentRecord, wishes: readonly (readonly PublishedPort[])[], { context, undo }: Claiming): readonly PublishedPort[] {
  if (wishes.length === 0) return []
  const { state, backend } = context
  backend.ensureAvailable([...new Set(wishes.flat().map(({ address }) => address.family))])
  const ledger = ledgerOf(state)
  let added: readonly PublishedPort[] = []
  undo.push('record', () => writeRecord(state, record))
  undo.push('ports', () => releasePorts(ledger, ownerText(record), added))
  const onChosen = (ports: readonly PublishedPort[]) => {
    const other = wishes.flat().find((wish) => wish.hostPort > 0 && !ports.some((port) => isSame(port, wish)))
    if (other !== undefined) throw portTaken(other, 'another interface of the container')
    added = ports
    writeRecord(state, { ...record, ports: [...record.ports, ...ports.map(recordPort)] })
  }
  claimPorts(ledger, ownerText(record), { wishes, keep: record.ports.map(recordedPort), host: hostPortsFor(record), onChosen })
  return added
}

/** @throws TsnetError with CNI code 3: the network's folder is not made for an attachment that is not */
function lockAttached(owner: Owner, context: PlanContext): Disposable {
  attachedRecord(owner, context)
  return lockNetwork(context.state, owner.network)
}

function attachedRecord(owner: Owner, { state }: PlanContext): AttachmentRecord {
  const record = readRecord(state, owner)
  if (record?.state === 'attached') return record
  throw new TsnetError('TSNET_UNKNOWN', `Cannot change the ports of "${ownerText(owner)}": it is not attached`, {
    cniCode: CNI_CODE.unknownContainer,
    hint: 'tsnet ls shows what is attached',
  })
}

function refuseOverlap(record: AttachmentRecord, wanted: readonly PublishedPort[], standing: readonly PublishedPort[]): void {
  const clash = (one: PublishedPort, other: PublishedPort) =>
    (one.hostPort > 0 && portsConflict(one, other)) || (record.direct === true && targetsOverlap(one, other))
  const port = wanted.find((one) => standing.some((other) => clash(one, other)))
  if (port !== undefined) throw portTaken(port, `attachment "${ownerText(record)}" itself`)
}

function portTaken(port: PublishedPort, holder: string): TsnetError {
  return new TsnetError('TSNET_PORT_TAKEN', `Cannot publish ${formatHostPort(port)}: ${holder} has it`, {
    cniCode: CNI_CODE.hostPortTaken,
    hint: 'Publish another host port, or withdraw that one first with tsnet port rm',
  })
}

function rulesOf(record: AttachmentRecord, ports: readonly PublishedPort[]): NonNullable<RuleChange['add']> {
  return { networks: [], attachments: [rulesOfAttachment(record, ports)] }
}

function isSame(a: PublishedPort, b: PublishedPort): boolean {
  return JSON.stringify(inOrder(a)) === JSON.stringify(inOrder(b))
}

function inOrder(port: PublishedPort): readonly unknown[] {
  const { protocol, hostAddress, hostPort, count, address, containerPort, allow } = recordPort(port)
  return [protocol, hostAddress, hostPort, count, address, containerPort, allow]
}
