/** What the types `bridge` and `ptp` have in common: an attachment is a veth pair with addresses, which one of the two connects. */
import { addressesOf } from '../bridge/address.ts'
import { interfaceTaken } from '../bridge/veth.ts'
import { AttachmentBook, type BookEntry } from '../chained/attachment-book.ts'
import { findContainerNetns, openContainerNetns } from '../chained/container-netns.ts'
import { collectStale } from '../chained/garbage.ts'
import { collectMasquerade, setUpMasquerade, tearDownMasquerade } from '../chained/masquerade.ts'
import { addressesIn } from '../chained/previous-result.ts'
import { createPair, deleteHostEnd, findHostEnd, findPeer, type HostEnd, type PairWish } from '../chained/veth-pair.ts'
import { field } from '../cni/json.ts'
import { formatResult, type Result } from '../cni/result.ts'
import { parseValidAttachments } from '../cni/valid-attachments.ts'
import { forgetAddresses } from '../nat/stale-connections.ts'
import { findLink, type ObservedLink, openRtnetlink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { PlanContext } from '../plan/attach.ts'
import { Attempts } from '../plan/detach.ts'
import { isLinkLocal } from '../plan/network.ts'
import { type Owner, ownerText } from '../plan/owner.ts'
import type { StateFolder } from '../plan/state-folder.ts'
import { UndoStack } from '../plan/undo.ts'
import { bootId } from '../sys/boot.ts'
import { type Netns, within } from '../sys/netns.ts'
import { formatPrefix } from '../wire/ip-address.ts'
import { type Ipam, ipamOf, leaseFrom } from './ipam.ts'
import { ownerOf, type PluginRequest } from './plugin.ts'
import type { VethConfig } from './veth-config.ts'

/** What the kernel gives a veth pair, bytes. */
export const ETHERNET_MTU = 1500

/** What an ADD has made, or is about to make. */
export interface VethRecord {
  /** That of {@link PluginRequest.context}. */
  readonly request?: string
  readonly hostEnd?: HostEnd
  /** `address/length` of each. */
  readonly addresses: readonly string[]
  readonly masqueraded?: boolean
  /** Whether frames with another source MAC address are dropped. */
  readonly checked?: boolean
  /** The interface of the host that has the gateway of a VLAN. */
  readonly vlanGateway?: { readonly bridge: string; readonly vlan: number }
  /** Present when the ADD has come to its end. */
  readonly result?: Result
}

/** Where an ADD works. */
export interface VethSite {
  readonly request: PluginRequest
  readonly owner: Owner
  readonly host: NetlinkSocket
  /** A socket in the container's namespace. */
  readonly container: NetlinkSocket
  readonly netns: Netns
  readonly undo: UndoStack
  /** Writes down what is about to be made. */
  readonly note: (more: Partial<VethRecord>) => void
}

export interface VethType {
  readonly name: 'bridge' | 'ptp'
  /** Whether an end of the host's that nobody has written down may be one that this configuration has made. */
  readonly mayHaveMade: (end: ObservedLink, host: NetlinkSocket, request: PluginRequest) => boolean
  /** Takes back what the type makes beside link, addresses and masquerading. */
  readonly disconnect: (record: VethRecord, from: { readonly owner: Owner; readonly host: NetlinkSocket; readonly state: StateFolder }) => void
}

/** @param connect Makes everything; what it does is on the undo stack. @throws TsnetError; then nothing is left of it */
export function addVeth(type: VethType, request: PluginRequest, connect: (site: VethSite) => Result): Result {
  const { environment, context } = request
  const owner = ownerOf(request)
  using netns = openContainerNetns(environment, context)
  using container = within(netns, openRtnetlink)
  const book = bookOf(type, request)
  const former = book.read(owner)
  // Complete but for its answer, which was lost: the same is answered again.
  if (former?.data.result !== undefined && context.request !== undefined && former.data.request === context.request) return former.data.result
  if (findLink(container, owner.ifname) !== undefined && !isLeftBehind(former, netns)) throw interfaceTaken(owner.ifname)
  if (former !== undefined) delVeth(type, request)
  using host = openRtnetlink()
  using undo = new UndoStack(context.warn)
  undo.push('record', () => book.remove(owner))
  let record: VethRecord = { addresses: [], ...(context.request !== undefined && { request: context.request }) }
  const note = (more: Partial<VethRecord>) => {
    record = { ...record, ...more }
    book.write(owner, netns, record)
  }
  note({})
  const result = connect({ request, owner, host, container, netns, undo, note })
  note({ result })
  undo.commit()
  return result
}

/** @throws ErrorList when something could not be removed; what is remembered of it then stays, so that the next DEL or GC tries again */
export function delVeth(type: VethType, request: PluginRequest): void {
  const owner = ownerOf(request)
  const ipam = ipamOf(request)
  const book = bookOf(type, request)
  const entry = book.read(owner)
  const errors = new Attempts()
  using netns = findContainerNetns(request.environment, request.context, entry)
  using host = openRtnetlink()
  const found = errors.try(() => (entry?.data.hostEnd === undefined ? findUnrecorded(type, request, { host, netns }) : undefined))
  const record = { ...unrecordedWishes(request), addresses: found?.addresses ?? [], ...entry?.data }
  // A DHCP server is told over the link.
  const early = ipam?.needsLink === true
  if (early) errors.try(() => ipam.del())
  errors.try(() => found?.remove())
  takeBack(type, owner, { record, host, errors, context: request.context })
  if (!early) errors.try(() => ipam?.del())
  errors.finish(`Cannot detach "${ownerText(owner)}"`)
  book.remove(owner)
}

/** Removes what no runtime knows any more. A runtime that names no list at all has not said that nothing is alive. */
export function collectVeths(type: VethType, request: PluginRequest): void {
  const { config, environment } = request
  const valid = parseValidAttachments(config.raw)
  if (valid === undefined) return
  const ipam = ipamOf(request)
  const forget = ({ containerID, ifname }: Owner) =>
    delVeth(type, { ...request, environment: { ...environment, command: 'DEL', containerID, ifname, netns: '' } })
  const masquerading = field(config.raw, 'ipMasq') === true ? [() => collectMasquerade(config.name, valid)] : []
  const others = [...masquerading, () => ipam?.gc()]
  collectStale(bookOf(type, request), { network: config.name, valid, takeBack: forget, others })
}

/** Makes the pair, and writes its name down before. @throws TsnetError TSNET_INTERFACE_TAKEN, CNI code 101 */
export function connectPair(site: VethSite, wish: Omit<PairWish, 'ifname' | 'netnsFd'>): HostEnd {
  const { host, container, netns, owner, undo, note } = site
  return createPair({ host, container }, { ...wish, ifname: owner.ifname, netnsFd: netns.fd }, (hostEnd) => {
    note({ hostEnd })
    undo.push(`veth "${hostEnd.name}"`, () => deleteHostEnd(host, hostEnd))
  })
}

/** @returns What IPAM gave, at least one address. @throws TsnetError */
export function lease({ undo, note }: VethSite, ipam: Ipam): Result {
  const result = leaseFrom(ipam, undo)
  note({ addresses: result.ips.map(({ address }) => address) })
  undo.push('connections', () => forgetAddresses(addressesIn(result).map(({ address }) => address)))
  return result
}

export function masquerade({ owner, undo, note }: VethSite, { masquerade: wish }: VethConfig, result: Result): void {
  if (wish === undefined) return
  const addresses = addressesIn(result)
  note({ masqueraded: true })
  undo.push('masquerading', () => tearDownMasquerade(owner, addresses))
  setUpMasquerade({ owner, addresses, ...wish })
}

/** Refuses what cannot be told in the version of the configuration, while everything can still be taken back. @returns The result with the definition's dns */
export function tellable(result: Result, { dns }: VethConfig, { config }: PluginRequest): Result {
  const told = dns === undefined ? result : { ...result, dns }
  formatResult(told, config.cniVersion)
  return told
}

export function bookOf(type: Pick<VethType, 'name'>, { context }: PluginRequest): AttachmentBook<VethRecord> {
  return new AttachmentBook(context.state, type.name)
}

/** Of an ADD that was killed. */
function isLeftBehind(former: BookEntry<VethRecord> | undefined, netns: Netns): boolean {
  return former !== undefined && former.data.result === undefined && former.bootId === bootId() && former.netns.inode === netns.inode
}

interface TakingBack {
  readonly record: VethRecord
  readonly host: NetlinkSocket
  readonly errors: Attempts
  readonly context: PlanContext
}

/** The links first: an address that is free must not be one that somebody still has. */
function takeBack(type: VethType, owner: Owner, { record, host, errors, context }: TakingBack): void {
  const { hostEnd } = record
  const addresses = addressesIn({ ips: record.addresses.map((address) => ({ address })) })
  errors.try(() => context.deleteLinks(host, linksOf(host, hostEnd)))
  errors.try(() => record.masqueraded && tearDownMasquerade(owner, addresses))
  errors.try(() => type.disconnect(record, { owner, host, state: context.state }))
  errors.try(() => forgetAddresses(addresses.map(({ address }) => address)))
}

function linksOf(host: NetlinkSocket, hostEnd: HostEnd | undefined): readonly number[] {
  const link = hostEnd && findHostEnd(host, hostEnd)
  return link === undefined ? [] : [link.index]
}

/** Of an attachment that another program has made. */
function unrecordedWishes({ config }: PluginRequest): Pick<VethRecord, 'masqueraded' | 'checked'> {
  return { masqueraded: field(config.raw, 'ipMasq') === true, checked: field(config.raw, 'macspoofchk') === true }
}

interface Unrecorded {
  readonly addresses: readonly string[]
  readonly remove: () => void
}

/** What the reference plugin has made is known by its place: a pair between the container and where this configuration leads. */
function findUnrecorded(
  type: VethType,
  request: PluginRequest,
  { host, netns }: { readonly host: NetlinkSocket; readonly netns: Netns | undefined },
): Unrecorded | undefined {
  if (netns === undefined) return undefined
  using container = within(netns, openRtnetlink)
  const link = findLink(container, request.environment.ifname)
  const end = link && findPeer(host, link, netns)
  if (link === undefined || end === undefined || !type.mayHaveMade(end, host, request)) return undefined
  const addresses = addressesOf(container, link.index).filter((prefix) => !isLinkLocal(prefix))
  return { addresses: addresses.map(formatPrefix), remove: () => request.context.deleteLinks(host, [end.index]) }
}
