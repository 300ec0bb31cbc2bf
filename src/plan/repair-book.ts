/** Repairs what is written down of an attachment, for when somebody edited or deleted it: its leases, its claims on host ports. */
import { TsnetError } from '../error.ts'
import { leaseOwner } from '../ipam/lease.ts'
import { openExistingSubnet, openSubnet } from '../ipam/open-subnet.ts'
import { rangeWith } from '../ipam/range.ts'
import type { SubnetStore } from '../ipam/store.ts'
import { parseRangeSets } from '../ipam/subnet.ts'
import { formatHostPort } from '../nat/model.ts'
import { restoreClaims, unclaimedPorts } from '../nat/port-ledger.ts'
import { formatAddress, parsePrefix } from '../wire/ip-address.ts'
import type { Findings } from './findings.ts'
import type { NetworkRecord } from './network.ts'
import { ownerText } from './owner.ts'
import { heldPorts, ledgerOf } from './ports.ts'
import type { AttachmentRecord } from './record.ts'
import type { RepairContext } from './repair.ts'
import { networkFolder } from './state-folder.ts'

interface Book {
  readonly known: NetworkRecord
  readonly context: RepairContext
}

/** Whatever is another's by now stays with that one, and is a failure. The caller holds the network's lock. */
export function repairBook(record: AttachmentRecord, own: Findings, book: Book): void {
  own.try(() => repairLeases(record, own, book))
  own.try(() => repairClaims(record, own, book.context))
}

function repairLeases(record: AttachmentRecord, own: Findings, { known, context }: Book): void {
  const holder = leaseOwner(record.containerID, record.ifname)
  using store = openExistingSubnet(networkFolder(context.state, record.network)) ?? (context.dryRun ? undefined : makeSubnet(record, known, context))
  const held = store?.leasesOf(holder).map(formatAddress) ?? []
  for (const { address: text } of record.addresses) {
    const address = parsePrefix(text)?.address
    if (address === undefined || held.includes(formatAddress(address))) continue
    const other = store?.leases().find((lease) => formatAddress(lease.address) === formatAddress(address))?.owner
    if (other !== undefined) {
      own.fail(leaseLost(record, text, other))
      continue
    }
    const acquire = () => store?.acquire(holder, setWith(store, address), address)
    if (context.dryRun || own.try(acquire)) own.add(`the lease of ${text}`)
  }
}

/** The ranges that were configured are gone with the file: the next ADD writes its own again, and keeps the leases. */
function makeSubnet({ network }: AttachmentRecord, known: NetworkRecord, { state }: RepairContext): SubnetStore {
  const rangeSets = known.subnets.flatMap((subnet) => parseRangeSets({ subnet }))
  return openSubnet({ folder: networkFolder(state, network), network, rangeSets })
}

function setWith(store: SubnetStore, address: Parameters<typeof rangeWith>[1]): number {
  const index = store.head.rangeSets.findIndex((set) => rangeWith(set, address) !== undefined)
  if (index >= 0) return index
  throw new TsnetError('TSNET_REPAIR', `Cannot lease ${formatAddress(address)} again: it is in no range of the subnet file any more`, {
    hint: 'Detach and attach the container again',
  })
}

/** Only what is missing is written: else the ledger would be locked for nothing. */
function repairClaims(record: AttachmentRecord, own: Findings, { state, dryRun }: RepairContext): void {
  const ports = heldPorts(record)
  const missing = unclaimedPorts(ledgerOf(state), ownerText(record), ports)
  if (missing.length === 0) return
  const refusals = dryRun ? [] : restoreClaims(ledgerOf(state), ownerText(record), ports)
  const left = refusals.length === 0 ? [] : unclaimedPorts(ledgerOf(state), ownerText(record), missing)
  for (const port of missing) if (!left.includes(port)) own.add(`the claim on ${formatHostPort(port)}`)
  for (const refusal of refusals) own.fail(refusal)
}

function leaseLost(record: AttachmentRecord, address: string, other: string): TsnetError {
  return new TsnetError('TSNET_REPAIR', `Cannot repair "${ownerText(record)}": it lacks the lease of ${address}, which "${other}" has now`, {
    hint: 'Detach and attach the container again',
  })
}
