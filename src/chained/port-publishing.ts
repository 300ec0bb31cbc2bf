/** Publishes the ports of one attachment by the rules of type portmap, withdraws them, and says what is missing. */
import type { ValidAttachment } from '../cni/valid-attachments.ts'
import { CNI_CODE, isErrno, TsnetError } from '../error.ts'
import { hasIptables } from '../nat/iptables/program.ts'
import { editTable, readTable } from '../nat/iptables/table-edit.ts'
import type { PublishedPort } from '../nat/model.ts'
import { claimPorts, releasePorts } from '../nat/port-ledger.ts'
import { forgetFormer, forgetWithdrawn } from '../nat/stale-connections.ts'
import type { PlanContext } from '../plan/attach.ts'
import { Attempts } from '../plan/detach.ts'
import { type Owner, ownerText } from '../plan/owner.ts'
import { ledgerOf } from '../plan/ports.ts'
import type { StateFolder } from '../plan/state-folder.ts'
import { UndoStack } from '../plan/undo.ts'
import { bootId } from '../sys/boot.ts'
import { findNetns, type Netns } from '../sys/netns.ts'
import type { Family } from '../wire/ip-address.ts'
import { AttachmentBook, type BookEntry } from './attachment-book.ts'
import { collectStale } from './garbage.ts'
import { routeLocalhostTo } from './localhost-route.ts'
import { editNftTable, hasNft } from './nft-script.ts'
import { exclusivePorts, familiesOf, type PortRecord, type PortRules, type PortRulesBackend, portsIn, recordOf, rulesFrom } from './port-rules.ts'
import { publishingContainers, removeContainerLines } from './port-rules-iptables.ts'
import { removeCommands, tableOf } from './port-rules-nftables.ts'
import { PORT_WRITERS } from './port-writers.ts'

const TYPE = 'portmap'
const FAMILIES: readonly Family[] = [4, 6]

export interface Publication {
  readonly owner: Owner
  readonly netns: Netns
  readonly rules: PortRules
  readonly backend: PortRulesBackend
}

/**
 * A port that another interface of the same container has stays with that one.
 * @throws TsnetError when anything failed; then nothing is left of it. CNI code 103 when somebody else has one of the ports
 */
export function publishPorts(publication: Publication, context: PlanContext): void {
  const { owner, backend } = publication
  const { state } = context
  // What an ADD that was killed has left behind.
  if (bookOf(state).read(owner) !== undefined) withdrawPorts(owner, publication.rules, context)
  using undo = new UndoStack(context.warn)
  const rules = claimForBook(publication, context, undo)
  for (const family of familiesOf(rules)) {
    const siblings = hasSiblings(owner, family, state)
    PORT_WRITERS[backend].add(family, rules, siblings)
    undo.push('rules', () => PORT_WRITERS[backend].remove(family, rules, siblings))
  }
  const [port] = portsIn(4, rules)
  if (rules.options.snat && port !== undefined) routeUnlessUnreachable(port, undo)
  forgetFormer(rules.ports)
  if (rules.ports.length === 0) bookOf(state).remove(owner)
  undo.commit()
}

/**
 * Takes everything back, by the book, or by the container's name where another program has published the ports.
 * @param known What the request says of ports and addresses, for when there is no book.
 * @throws ErrorList with everything that could not be removed; the book then stays
 */
export function withdrawPorts(owner: Owner, known: Pick<PortRules, 'ports' | 'targets'>, { state }: PlanContext): void {
  const record = bookOf(state).read(owner)?.data
  if (record === undefined) withdrawUnrecorded(owner, known, state)
  else withdrawRecorded(rulesFrom(owner, record), owner, { backend: record.backend, state })
  bookOf(state).remove(owner)
}

/** @param wished What the request says, for when another program has published the ports. @returns What should be there and is not, as text */
export function missingPorts(
  owner: Owner,
  wished: PortRules,
  { backend, state }: { readonly backend: PortRulesBackend; readonly state: StateFolder },
) {
  const record = bookOf(state).read(owner)?.data
  // All of its ports may be another interface's.
  if (record === undefined && bookOf(state).siblingsOf(owner).length > 0) return []
  const rules = record === undefined ? wished : rulesFrom(owner, record)
  return familiesOf(rules).flatMap((family) => PORT_WRITERS[record?.backend ?? backend].missing(family, rules))
}

/** For GC: withdraws the ports of a network's attachments that are not listed. @throws ErrorList with everything that could not be removed */
export function collectPorts(network: string, valid: readonly ValidAttachment[], context: PlanContext): void {
  collectStale(bookOf(context.state), {
    network,
    valid,
    takeBack: (owner) => withdrawPorts(owner, { ports: [], targets: [] }, context),
    others: FAMILIES.filter(hasIptables).map((family) => () => collectContainers(family, network, valid)),
  })
}

/** Also those of another program. */
function collectContainers(family: Family, network: string, valid: readonly ValidAttachment[]): void {
  const errors = new Attempts()
  const found = publishingContainers(network, readTable(family, 'nat'))
  const stale = found.filter((id) => !valid.some(({ containerID }) => containerID === id))
  for (const id of stale) errors.try(() => editTable(family, 'nat', { work: removeContainerLines(network, id) }))
  errors.finish(`Cannot withdraw the ports of containers of network "${network}"`)
}

/** @returns The rules with the ports that are the owner's now; its book says so already. */
function claimForBook({ owner, netns, rules: wished, backend }: Publication, context: PlanContext, undo: UndoStack): PortRules {
  const ledger = ledgerOf(context.state)
  const book = bookOf(context.state)
  const exclusive = exclusivePorts(wished)
  let rules = wished
  undo.push('book', () => book.remove(owner))
  undo.push('ports', () => releasePorts(ledger, ownerText(owner), exclusivePorts(rules)))
  const onChosen = (ports: readonly PublishedPort[]) => {
    rules = { ...wished, ports: wished.ports.filter((port) => !exclusive.includes(port) || ports.includes(port)) }
    book.write(owner, netns, recordOf(rules, backend))
  }
  const claim = () => claimPorts(ledger, ownerText(owner), { wishes: exclusive.map((port) => [port]), host: PROCESSES_ASIDE, onChosen })
  try {
    claim()
  } catch (error) {
    if (!(error instanceof TsnetError) || error.cniCode !== CNI_CODE.hostPortTaken || !withdrawDead(context)) throw error
    claim()
  }
  return rules
}

/**
 * Withdraws the ports of containers that have no namespace any more: their DEL went to another program, or is still to come.
 * @returns Whether there were any
 */
function withdrawDead(context: PlanContext): boolean {
  const book = bookOf(context.state)
  const dead = book.networks().flatMap((network) => book.owners(network).filter((owner) => isDead(book.read(owner))))
  for (const owner of dead) withdrawPorts(owner, { ports: [], targets: [] }, context)
  return dead.length > 0
}

function isDead(entry: BookEntry<PortRecord> | undefined): boolean {
  if (entry === undefined) return false
  using netns = entry.bootId === bootId() ? findNetns(entry.netns) : undefined
  return netns === undefined
}

function withdrawRecorded(
  rules: PortRules,
  owner: Owner,
  { backend, state }: { readonly backend: PortRulesBackend; readonly state: StateFolder },
): void {
  const errors = new Attempts()
  for (const family of familiesOf(rules)) errors.try(() => PORT_WRITERS[backend].remove(family, rules, hasSiblings(owner, family, state)))
  errors.try(() => forgetWithdrawn(rules.ports))
  errors.try(() => releasePorts(ledgerOf(state), ownerText(owner), exclusivePorts(rules)))
  errors.finish(`Cannot withdraw the ports of "${ownerText(owner)}"`)
}

/**
 * Another interface of the container keeps the chain, which is of both. Connections are those of the ports only if there were rules: else
 * another container may have ports and addresses by now.
 */
function withdrawUnrecorded(owner: Owner, { ports, targets }: Pick<PortRules, 'ports' | 'targets'>, state: StateFolder): void {
  if (bookOf(state).siblingsOf(owner).length > 0) return
  const errors = new Attempts()
  let found = 0
  const counted = (lines: readonly string[]) => {
    found += lines.length
    return lines
  }
  const chain = removeContainerLines(owner.network, owner.containerID)
  for (const family of FAMILIES.filter(hasIptables)) errors.try(() => editTable(family, 'nat', { work: (chains) => counted(chain(chains)) }))
  // In these tables nothing tells networks apart but the addresses.
  if (targets.length > 0 && hasNft()) {
    const own = { containerID: owner.containerID, targets }
    for (const family of FAMILIES) errors.try(() => editNftTable(tableOf(family), (present) => counted(removeCommands(family, own, present))))
  }
  if (found > 0) errors.try(() => forgetWithdrawn(ports))
  errors.finish(`Cannot withdraw the ports of "${ownerText(owner)}"`)
}

/** A process of the host that listens on the port is passed over, as ever: connections from outside go to the container. */
const PROCESSES_ASIDE = {
  firstTaken: () => undefined,
  refusal: () => {
    throw new TypeError('No process has been asked for')
  },
}

/** A container that the host does not route to is not the host's to connect to by 127.0.0.1. */
function routeUnlessUnreachable(port: PublishedPort, undo: UndoStack): void {
  try {
    routeLocalhostTo(port.address, undo)
  } catch (error) {
    if (!isErrno(error, 'ENETUNREACH', 'EHOSTUNREACH')) throw error
  }
}

function hasSiblings(owner: Owner, family: Family, state: StateFolder): boolean {
  return bookOf(state)
    .siblingsOf(owner)
    .some((sibling) => {
      const record = bookOf(state).read(sibling)?.data
      return record === undefined || familiesOf(rulesFrom(sibling, record)).includes(family)
    })
}

function bookOf(state: StateFolder): AttachmentBook<PortRecord> {
  return new AttachmentBook(state, TYPE)
}
