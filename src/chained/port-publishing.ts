/** Publishes the ports of one attachment by the rules of type portmap, withdraws them, and says what is missing. */
import { isErrno } from '../error.ts'
import { findIptables } from '../nat/iptables/program.ts'
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
import type { Netns } from '../sys/netns.ts'
import { findProgram } from '../sys/program-path.ts'
import type { Family, IpPrefix } from '../wire/ip-address.ts'
import { AttachmentBook } from './attachment-book.ts'
import { routeLocalhostTo } from './localhost-route.ts'
import { editNftTable, hasNft, listNftRules, requireNft } from './nft-script.ts'
import {
  exclusivePorts,
  familiesOf,
  type PortRecord,
  type PortRules,
  type PortRulesBackend,
  portsIn,
  recordOf,
  refuseFound,
  rulesFrom,
} from './port-rules.ts'
import {
  addLines,
  missingLines,
  publishedPorts,
  publishingContainers,
  removeContainerLines,
  removeLines,
  removePresentLines,
} from './port-rules-iptables.ts'
import { addCommands, missingCommands, publishedByNft, removeCommands, tableOf } from './port-rules-nftables.ts'

const TYPE = 'portmap'
const FAMILIES: readonly Family[] = [4, 6]

/** Each way to write the rules. */
interface Writer {
  add(family: Family, rules: PortRules, siblings: boolean): void
  remove(family: Family, rules: PortRules, siblings: boolean): void
  missing(family: Family, rules: PortRules): readonly string[]
}

const WRITERS: Readonly<Record<PortRulesBackend, Writer>> = {
  iptables: {
    add: (family, rules, siblings) => {
      const lines = addLines(family, rules, siblings)
      editTable(family, 'nat', {
        work: (chains) => {
          refuseFound(rules, publishedPorts(family, rules, chains))
          return lines(chains)
        },
      })
    },
    remove: (family, rules, siblings) =>
      editTable(family, 'nat', { blind: removeLines(family, rules, siblings), work: removePresentLines(family, rules, siblings) }),
    missing: (family, rules) => missingLines(family, rules, readTable(family, 'nat')),
  },
  nftables: {
    add: (family, rules) =>
      editNftTable(tableOf(family), (present) => {
        refuseFound(rules, publishedByNft(family, present))
        return addCommands(family, rules, present)
      }),
    remove: (family, rules) => editNftTable(tableOf(family), (present) => removeCommands(family, rules, present)),
    missing: (family, rules) => missingCommands(family, rules, listNftRules(tableOf(family))),
  },
}

export interface Publication {
  readonly owner: Owner
  readonly netns: Netns
  readonly rules: PortRules
  readonly backend: PortRulesBackend
}

/** @returns Which backend a configuration without one has. */
export function defaultPortBackend(): PortRulesBackend {
  return hasIptables(4) || !hasNft() ? 'iptables' : 'nftables'
}

/** @throws TsnetError with CNI code 50 when the backend's program is missing */
export function ensureBackend(backend: PortRulesBackend): void {
  if (backend === 'nftables') requireNft()
  else findIptables(4, 'restore')
}

/**
 * A port that another interface of the same container has stays with that one.
 * @throws TsnetError when anything failed; then nothing is left of it. CNI code 103 when somebody else has one of the ports
 */
export function publishPorts({ owner, netns, rules: wished, backend }: Publication, context: PlanContext): void {
  const { state } = context
  const ledger = ledgerOf(state)
  const book = bookOf(state)
  // What an ADD that was killed has left behind.
  if (book.read(owner) !== undefined) withdrawPorts(owner, wished, context)
  using undo = new UndoStack(context.warn)
  const exclusive = exclusivePorts(wished)
  let rules = wished
  undo.push('book', () => book.remove(owner))
  undo.push('ports', () => releasePorts(ledger, ownerText(owner), exclusivePorts(rules)))
  claimPorts(ledger, ownerText(owner), {
    wishes: exclusive.map((port) => [port]),
    host: PROCESSES_ASIDE,
    onChosen: (ports) => {
      rules = { ...wished, ports: wished.ports.filter((port) => !exclusive.includes(port) || ports.includes(port)) }
      book.write(owner, netns, recordOf(rules, backend))
    },
  })
  const writer = WRITERS[backend]
  for (const family of familiesOf(rules)) {
    const siblings = hasSiblings(owner, family, state)
    writer.add(family, rules, siblings)
    undo.push('rules', () => writer.remove(family, rules, siblings))
  }
  const [port] = portsIn(4, rules)
  if (rules.options.snat && port !== undefined) routeUnlessUnreachable(port, undo)
  forgetFormer(rules.ports)
  if (rules.ports.length === 0) book.remove(owner)
  undo.commit()
}

/**
 * Takes everything back, by the book, or by the container's name where another program has published the ports.
 * @param known What the request says of ports and addresses, for when there is no book.
 * @throws ErrorList with everything that could not be removed; the book then stays
 */
export function withdrawPorts(owner: Owner, known: Pick<PortRules, 'ports' | 'targets'>, { state }: PlanContext): void {
  const errors = new Attempts()
  const record = bookOf(state).read(owner)?.data
  if (record === undefined) errors.try(() => withdrawUnrecorded(owner, known.targets, state))
  const rules = record === undefined ? undefined : rulesFrom(owner, record)
  for (const family of rules === undefined ? [] : familiesOf(rules)) {
    errors.try(() => WRITERS[record?.backend ?? 'iptables'].remove(family, rules as PortRules, hasSiblings(owner, family, state)))
  }
  errors.try(() => forgetWithdrawn((rules ?? known).ports))
  errors.try(() => rules && releasePorts(ledgerOf(state), ownerText(owner), exclusivePorts(rules)))
  errors.finish(`Cannot withdraw the ports of "${ownerText(owner)}"`)
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
  if (record === undefined && siblingsOf(owner, state).length > 0) return []
  const rules = record === undefined ? wished : rulesFrom(owner, record)
  return familiesOf(rules).flatMap((family) => WRITERS[record?.backend ?? backend].missing(family, rules))
}

/** For GC: withdraws the ports of a network's attachments that are not listed. @throws ErrorList with everything that could not be removed */
export function collectPorts(network: string, valid: readonly Omit<Owner, 'network'>[], context: PlanContext): void {
  const errors = new Attempts()
  const stays = (owner: Owner) => valid.some(({ containerID, ifname }) => containerID === owner.containerID && ifname === owner.ifname)
  const nothing = { ports: [], targets: [] }
  for (const owner of bookOf(context.state).owners(network)) if (!stays(owner)) errors.try(() => withdrawPorts(owner, nothing, context))
  for (const family of FAMILIES.filter(hasIptables)) {
    const found = errors.try(() => publishingContainers(network, readTable(family, 'nat'))) ?? []
    const stale = found.filter((id) => !valid.some(({ containerID }) => containerID === id))
    for (const id of stale) errors.try(() => editTable(family, 'nat', { work: removeContainerLines(network, id) }))
  }
  errors.finish(`Cannot collect the published ports of network "${network}"`)
}

/** Another interface of the container keeps the chain, which is of both. */
function withdrawUnrecorded(owner: Owner, targets: readonly IpPrefix[], state: StateFolder): void {
  if (siblingsOf(owner, state).length > 0) return
  const errors = new Attempts()
  for (const family of FAMILIES.filter(hasIptables)) {
    errors.try(() => editTable(family, 'nat', { work: removeContainerLines(owner.network, owner.containerID) }))
  }
  // In these tables nothing tells networks apart but the addresses.
  if (targets.length > 0 && hasNft()) {
    const rules = { containerID: owner.containerID, targets }
    for (const family of FAMILIES) errors.try(() => editNftTable(tableOf(family), (present) => removeCommands(family, rules, present)))
  }
  errors.finish('Cannot remove the rules')
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
  return siblingsOf(owner, state).some((sibling) => {
    const record = bookOf(state).read(sibling)?.data
    return record === undefined || familiesOf(rulesFrom(sibling, record)).includes(family)
  })
}

function siblingsOf(owner: Owner, state: StateFolder): readonly Owner[] {
  return bookOf(state)
    .owners(owner.network)
    .filter(({ containerID, ifname }) => containerID === owner.containerID && ifname !== owner.ifname)
}

function bookOf(state: StateFolder): AttachmentBook<PortRecord> {
  return new AttachmentBook(state, TYPE)
}

function hasIptables(family: Family): boolean {
  return findProgram(family === 4 ? 'iptables-restore' : 'ip6tables-restore') !== undefined
}
