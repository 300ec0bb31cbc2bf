/**
 * Repair: makes again what the records promise and somebody took away. It only adds: what is right is not touched, no rule is
 * deleted and no link taken down, so that the traffic of those that lack nothing goes on.
 */
import { existsSync } from 'node:fs'
import { TsnetError } from '../error.ts'
import { forgetFormer } from '../nat/stale-connections.ts'
import { openRtnetlink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { findNetns, type Netns, within } from '../sys/netns.ts'
import { formatPrefix } from '../wire/ip-address.ts'
import { type ApplyContext, apply } from './apply.ts'
import type { PlanContext } from './attach.ts'
import { withBackend } from './backend.ts'
import { type Desired, desiredOf } from './desired.ts'
import { describeStep, diff, type Step } from './diff.ts'
import { Findings, type Repair } from './findings.ts'
import { repairZone } from './firewalld.ts'
import type { HostSysctl } from './host-switches.ts'
import { type NetworkRecord, readNetwork, writeNetwork } from './network.ts'
import { type Observed, observeLinks } from './observe.ts'
import { ownerText } from './owner.ts'
import { rulesOfNetwork } from './policy.ts'
import { type AttachmentRecord, listOwners, recordedPort } from './record.ts'
import { repairBook } from './repair-book.ts'
import { repairLoopback, repairSysctlFile, type SwitchRepair } from './repair-switches.ts'
import { lockContainers } from './settle.ts'
import { siblingBridges } from './sibling-networks.ts'
import { siblingsOf } from './siblings.ts'
import { lockHost, lockNetwork, networkFolder } from './state-folder.ts'
import { inspect } from './status.ts'
import { UndoStack } from './undo.ts'

export interface RepairContext extends PlanContext {
  /** Whether only to look. */
  readonly dryRun: boolean
}

/**
 * Goes on after errors and returns them with what they happened to.
 * @param network Its name. Its lock is held meanwhile.
 * @returns What the attachments share, then each of them; empty when there is none (any more).
 * @throws TsnetError when the lock cannot be had
 */
export function repairNetwork(network: string, context: RepairContext): readonly Repair[] {
  const { state } = context
  using _lock = existsSync(networkFolder(state, network)) ? lockNetwork(state, network) : undefined
  const members = listOwners(state, network).map((owner) => inspect(state, owner))
  if (members.length === 0) return []
  const shared = new Findings({ network, status: 'attached' })
  const known = readNetwork(state, network)
  const all = members.map(({ owner, status }) => new Findings({ network, owner, status }))
  for (const [i, { owner, status }] of members.entries()) {
    if (status === 'unreadable') all[i]?.fail(new TsnetError('TSNET_RECORD', `Cannot repair "${ownerText(owner)}": its record cannot be read`))
  }
  const living = members.flatMap(({ record, status }, i) => (record && status === 'attached' ? [{ record, own: all[i] as Findings }] : []))
  if (known === undefined) shared.fail(new TsnetError('TSNET_RECORD', `Cannot repair network "${network}": its record cannot be read`))
  else if (living.length > 0) {
    const own = { ...withBackend(context, known.backend), onMade: (what: string) => shared.add(what) }
    repairLiving(living, { known, shared, context: own, wanted: [] })
    shared.try(() =>
      repairLoopback(
        known,
        members.map(({ record }) => record),
        own,
      ),
    )
  }
  return [shared, ...all]
}

interface Living {
  readonly record: AttachmentRecord
  readonly own: Findings
}

interface Shared {
  readonly known: NetworkRecord
  readonly shared: Findings
  readonly context: RepairContext & SwitchRepair
  /** Gathers the host's switches that the attachments need. */
  readonly wanted: HostSysctl[]
}

/** The newest first: when there was more than one bridge, the neighbours know the MAC address of the last. */
function repairLiving(living: readonly Living[], work: Shared): void {
  const records = living.map(({ record }) => record)
  work.shared.try(() => repairRules(records, work))
  using host = openRtnetlink()
  const newestFirst = [...living].sort((a, b) => b.record.created.localeCompare(a.record.created))
  const bridgeMac = newestFirst[0]?.record.bridgeMac ?? ''
  for (const { record, own } of newestFirst) own.try(() => repairLinks({ ...record, bridgeMac }, { ...work, own, host }))
  work.shared.try(() => repairZone(work.known, work.shared, { ...work.context, network: work.shared.network }))
  work.shared.try(() => repairSysctlFile(work.wanted, work.context))
  for (const { record, own } of living) own.try(() => repairBook(record, own, work))
}

/** All in one transaction a family, under the host's lock: networks that come and go make and drop the chains that all share. */
function repairRules(records: readonly AttachmentRecord[], { known, shared, context }: Shared): void {
  const rules = { networks: rulesOfNetwork(known), attachments: records.flatMap((record) => desiredOf(record, known).rules.attachments) }
  const missing = context.backend.findMissing(rules)
  if (missing.length > 0 && !context.dryRun) {
    using _lock = lockHost(context.state)
    context.backend.startChange({ add: rules, base: 'ensure' }).finish()
    // Without the rules, packets of a client that goes on sending have made an entry that leads nowhere, and keep it alive.
    forgetFormer(records.flatMap(({ ports }) => ports.map(recordedPort)))
    const [still] = context.backend.findMissing(rules)
    if (still !== undefined) throw new TsnetError('TSNET_REPAIR', `Cannot repair the rules of "${shared.network}": "${still}" has vanished again`)
  }
  for (const rule of missing) shared.add(`the rule "${rule}"`)
}

interface OwnWork extends Shared {
  readonly own: Findings
  readonly host: NetlinkSocket
}

function repairLinks(record: AttachmentRecord, work: OwnWork): void {
  const { known, context, own, host } = work
  using netns = findNetns(record.netns)
  if (netns === undefined) throw unreachable(record)
  using container = within(netns, openRtnetlink)
  const siblings = { records: siblingsOf(context.state, record), bridges: siblingBridges(record, container, context.state) }
  const desired = desiredOf(record, known, siblings)
  // Another network may be changing the routes of the same container.
  using _lock = desired.container.sourceRouting && lockContainers(context.state)
  work.wanted.push(...desired.hostSysctls)
  const look = () => ({ ...observeLinks(host, desired, netns), missingRules: [] })
  const observed = look()
  const steps = [...macSteps(desired, observed, known), ...diff(desired, observed)].filter((step) => isShared(step) || !isTorn(observed))
  if (isTorn(observed)) own.fail(torn(record))
  if (steps.length > 0) performAll(steps, netns, { ...work, container })
  if (steps.length === 0 || context.dryRun || own.errors.length > 0 || work.shared.errors.length > 0) return
  const [left] = diff(desired, look())
  if (left !== undefined) own.fail(new TsnetError('TSNET_REPAIR', `Cannot repair "${ownerText(record)}": it still lacks ${describeStep(left)}`))
}

/** What follows a link that could not be made cannot be made either. */
function performAll(steps: readonly Step[], netns: Netns, work: OwnWork & { readonly container: NetlinkSocket }): void {
  const { context, shared, own, host, container } = work
  const onRouteTaken: ApplyContext['onRouteTaken'] = ({ destination }) => {
    throw routeTaken(own, formatPrefix(destination))
  }
  // Never taken back: half a repair is better than none, and the next one goes on from there.
  const kept = { undo: new UndoStack(context.warn), alone: () => false, lastOfBackend: () => false }
  const performing: ApplyContext = { ...kept, host, container, netns, backend: context.backend, fresh: true, formerRules: [], onRouteTaken }
  for (const step of steps) {
    const findings = isShared(step) ? shared : own
    if (!context.dryRun) {
      if (step.kind === 'createBridge') rememberBridge(work)
      const done = findings.try(() => apply([step], performing))
      if (!done && (step.kind === 'createBridge' || step.kind === 'createVeth')) return
      if (!done) continue
    }
    if (step.kind !== 'announce') findings.add(describeStep(step))
  }
}

/** A bridge of the person's that is gone is replaced by one of ours, which goes with the last attachment. */
function rememberBridge({ known, shared, context }: OwnWork): void {
  if (!known.createdBridge) writeNetwork(context.state, shared.network, { ...known, createdBridge: true })
}

/** Neighbours keep the old address for a minute. A bridge of the person's has the one that he, or the kernel, gives it. */
function macSteps({ bridge }: Desired, observed: Observed, known: NetworkRecord): readonly Step[] {
  const { name, mac } = bridge
  const right = observed.bridge === undefined || !known.createdBridge || Buffer.compare(observed.bridge.mac, mac) === 0
  return right ? [] : [{ kind: 'setBridgeMac', name, mac }]
}

function isShared({ kind }: Step): boolean {
  return (
    kind === 'createBridge' ||
    kind === 'setBridgeMac' ||
    kind === 'setBridgeUp' ||
    kind === 'filterBridge' ||
    kind === 'ignoreGroupFrames' ||
    kind === 'addBridgeAddress' ||
    kind === 'setHostSysctl'
  )
}

/** Whether one end of the pair is there without the other: somebody renamed or moved it, and a new pair would clash with it. */
function isTorn({ port, container }: Observed): boolean {
  return (port === undefined) !== (container === undefined)
}

function torn(record: AttachmentRecord): TsnetError {
  const { hostVeth, ifname } = record
  return new TsnetError('TSNET_REPAIR', `Cannot repair "${ownerText(record)}": only one of "${hostVeth}" and "${ifname}" in the container is there`, {
    hint: 'Somebody renamed or moved an end of the veth pair: undo that, or detach and attach the container again',
  })
}

function unreachable(record: AttachmentRecord): TsnetError {
  return new TsnetError(
    'TSNET_REPAIR',
    `Cannot repair "${ownerText(record)}": no process is in its namespace, and "${record.netns.path}" is another`,
    {
      hint: 'Bind the namespace to that path again, or detach the container',
    },
  )
}

function routeTaken(own: Findings, destination: string): TsnetError {
  return new TsnetError('TSNET_REPAIR', `Cannot repair "${own.owner && ownerText(own.owner)}": the container has another route to ${destination}`, {
    hint: 'Delete that route, or leave it: the container uses it instead',
  })
}
