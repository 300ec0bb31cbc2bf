/** The five verbs of every type that puts one interface into a container: what they share, and the place for what each does itself. */
import { AttachmentBook, type BookEntry } from '../chained/attachment-book.ts'
import { type ContainerLink, configureLink } from '../chained/container-link.ts'
import { findContainerNetns, openContainerNetns, openRememberedNetns } from '../chained/container-netns.ts'
import { differences } from '../chained/device-check.ts'
import { collectStale } from '../chained/garbage.ts'
import { requireCheckedResult } from '../chained/previous-result.ts'
import type { Result } from '../cni/result.ts'
import { parseValidAttachments } from '../cni/valid-attachments.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { changeLink, findLink, openRtnetlink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { Attempts } from '../plan/detach.ts'
import { type Owner, ownerText } from '../plan/owner.ts'
import { UndoStack } from '../plan/undo.ts'
import { type Netns, within } from '../sys/netns.ts'
import { refuseProblems } from './check-failure.ts'
import { describeLink, NOTHING, previousOf, resultOf } from './device-result.ts'
import type { DeviceType } from './device-type.ts'
import { type Ipam, ipamOf, leaseFrom } from './ipam.ts'
import { ownerOf, type Plugin, type PluginRequest } from './plugin.ts'
import { refuseResident } from './resident.ts'

/** What the book of a type holds. */
interface Memory<D> {
  /** The request that made it, where an agent may have been asked first. */
  readonly request?: string
  /** Absent until ADD has done everything: one that was killed does not count as attached. */
  readonly complete?: true
  readonly device: D
}

/** @returns The plugin of one type. */
export function devicePlugin<C, D>(type: DeviceType<C, D>): Plugin {
  return {
    add: (request) => add(type, request),
    del: (request) => del(type, request),
    check: (request) => check(type, request),
    gc: (request) => gc(type, request),
    status: (request) => {
      const config = type.parse(request)
      using host = openRtnetlink()
      type.status(config, host)
      ipamOf(request)?.status()
    },
  }
}

function add<C, D>(type: DeviceType<C, D>, request: PluginRequest): Result {
  const { context, environment } = request
  const { ipam, given } = addressing(type, request)
  const config = type.parse(request)
  const owner = ownerOf(request)
  const book = bookOf(type, request)
  using netns = openContainerNetns(environment, context)
  using host = openRtnetlink()
  using container = within(netns, openRtnetlink)
  clearFormer(type, request, { owner, netns, container, ipam })
  const device = type.plan(config, { host, container })
  using undo = new UndoStack(context.warn)
  undo.push('what is remembered', () => book.remove(owner))
  const memory = { device, ...(context.request !== undefined && { request: context.request }) }
  book.write(owner, netns, memory)
  const linkless = type.isLinkless?.(config) ?? false
  if (!linkless) type.make(config, device, { owner, host, container, netns, undo })
  const leased = given ?? (ipam === undefined ? NOTHING : leaseFrom(ipam, undo))
  if (leased.ips.some(({ gateway }) => gateway?.includes(':'))) refuseResident(context, 'the detection of duplicate IPv6 addresses')
  if (!linkless) bringUp({ rt: container, netns, name: owner.ifname }, leased)
  const own = linkless ? undefined : { ...describeLink(container, owner.ifname), ...type.describe?.(config), sandbox: netns.path }
  const result = resultOf(request, { leased, own, previous: type.takesPrevious === true ? undefined : previousOf(request) })
  book.write(owner, netns, { ...memory, complete: true })
  undo.commit()
  return result
}

/** An ADD that was killed, a container that died without DEL, or an answer that was lost must not keep an ADD from succeeding. */
function clearFormer<C, D>(
  type: DeviceType<C, D>,
  request: PluginRequest,
  now: { readonly owner: Owner; readonly netns: Netns; readonly container: NetlinkSocket; readonly ipam: Ipam | undefined },
): void {
  const { owner, netns, container, ipam } = now
  const entry = bookOf(type, request).read(owner)
  if (entry === undefined) return
  using former = openRememberedNetns(entry)
  const repeated = request.context.request !== undefined && entry.data.request === request.context.request
  if (!repeated && entry.data.complete === true && former?.inode === netns.inode && findLink(container, owner.ifname) !== undefined) {
    throw new TsnetError('TSNET_INTERFACE_TAKEN', `Cannot attach "${ownerText(owner)}": it is attached already`, {
      cniCode: CNI_CODE.interfaceTaken,
      hint: 'Delete the attachment first, or give another interface name',
    })
  }
  takeBack(type, request, { owner, entry, netns: former, ipam })
}

function del<C, D>(type: DeviceType<C, D>, request: PluginRequest): void {
  const ipam = ipamOf(request)
  const owner = ownerOf(request)
  const entry = bookOf(type, request).read(owner)
  using netns = findContainerNetns(request.environment, request.context, entry)
  takeBack(type, request, { owner, entry, netns, ipam })
}

interface Taken<D> {
  readonly owner: Owner
  readonly entry: BookEntry<Memory<D>> | undefined
  readonly netns: Netns | undefined
  readonly ipam: Ipam | undefined
}

/** First the addresses, since a DHCP server is told by the interface itself; the memory goes last. @throws ErrorList with all that went wrong */
function takeBack<C, D>(type: DeviceType<C, D>, request: PluginRequest, { owner, entry, netns, ipam }: Taken<D>): void {
  const attempts = new Attempts()
  const unmake = () => {
    using host = openRtnetlink()
    using container = netns && within(netns, openRtnetlink)
    const memory = entry === undefined ? type.recall?.(request.config.raw) : entry.data.device
    type.unmake({ owner, host, ...(container && { container }), ...(memory !== undefined && { memory }) })
    return true
  }
  const release = () => {
    ipam?.del()
    return true
  }
  const done = [attempts.try(release), attempts.try(unmake)]
  if (done.every(Boolean)) attempts.try(() => bookOf(type, request).remove(owner))
  attempts.finish(`Cannot delete "${ownerText(owner)}"`)
}

function check<C, D>(type: DeviceType<C, D>, request: PluginRequest): void {
  const expected = requireCheckedResult(request.config)
  const { ipam } = addressing(type, request)
  const config = type.parse(request)
  if (type.isLinkless?.(config) !== true) checkLink(type, { config, request, expected })
  ipam?.check()
}

function checkLink<C, D>(type: DeviceType<C, D>, about: { readonly config: C; readonly request: PluginRequest; readonly expected: Result }): void {
  const { config, request, expected } = about
  const name = request.environment.ifname
  using netns = openContainerNetns(request.environment, request.context)
  using host = openRtnetlink()
  using container = within(netns, openRtnetlink)
  const link = findLink(container, name)
  const memory = bookOf(type, request).read(ownerOf(request))?.data.device
  const wrong =
    link === undefined
      ? ['it does not exist']
      : [...type.check(config, { link, host, container, memory }), ...differences({ rt: container, netns, name }, expected, link)]
  refuseProblems(`The interface "${name}" is not as ADD made it`, wrong)
}

function gc<C, D>(type: DeviceType<C, D>, request: PluginRequest): void {
  const valid = parseValidAttachments(request.config.raw)
  // A runtime that names no list at all has not said that nothing is alive.
  if (valid === undefined) return
  const ipam = ipamOf(request)
  const book = bookOf(type, request)
  const forget = (owner: Owner) => {
    const entry = book.read(owner)
    using netns = entry && openRememberedNetns(entry)
    const environment = { ...request.environment, command: 'DEL', ...owner, netns: netns?.path ?? '' } as const
    takeBack(type, request, { owner, entry, netns, ipam: ipamOf({ ...request, environment }) })
  }
  collectStale(book, { network: request.config.name, valid, takeBack: forget, others: [() => ipam?.gc()] })
}

interface Addressing {
  readonly ipam: Ipam | undefined
  /** Addresses that a plugin before this one has chosen. */
  readonly given?: Result
}

/** @throws TsnetError TSNET_CONFIG, CNI code 7, when the type needs addresses and nobody gives any */
function addressing<C, D>(type: DeviceType<C, D>, request: PluginRequest): Addressing {
  const ipam = ipamOf(request)
  if (ipam !== undefined || type.ipam === 'optional') return { ipam }
  const given = type.takesPrevious === true ? previousOf(request) : undefined
  if (given !== undefined && given.ips.length > 0) return { ipam, given }
  throw invalid(`Invalid "ipam": a configuration of type "${type.type}" has to name an IPAM plugin`)
}

function bringUp(link: ContainerLink, leased: Result): void {
  if (leased.ips.length > 0) configureLink(link, leased)
  else changeLink(link.rt, `set "${link.name}" up`, { id: link.name, up: true })
}

function bookOf<C, D>({ type }: DeviceType<C, D>, { context }: PluginRequest): AttachmentBook<Memory<D>> {
  return new AttachmentBook(context.state, type)
}

function invalid(message: string): TsnetError {
  return new TsnetError('TSNET_CONFIG', message, { cniCode: CNI_CODE.invalidConfig })
}
