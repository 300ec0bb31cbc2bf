/** Type `sbr`: source-based routing. What a container sends from an address of the interface goes by that interface's routes. */
import { addressesOf } from '../bridge/address.ts'
import { AttachmentBook } from '../chained/attachment-book.ts'
import { findContainerNetns, openContainerNetns, openRememberedNetns } from '../chained/container-netns.ts'
import { collectStale } from '../chained/garbage.ts'
import { requirePreviousResult } from '../chained/previous-result.ts'
import { forgetSource, missingSources, routeBySource, type SourceTablesOptions } from '../chained/source-tables.ts'
import { invalidField, optionalBoolean, optionalInteger, optionalStrings } from '../cni/json.ts'
import type { Environment, RawConfig } from '../cni/request.ts'
import type { Result, ResultIp } from '../cni/result.ts'
import { parseValidAttachments } from '../cni/valid-attachments.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { findLink, openRtnetlink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { PlanContext } from '../plan/attach.ts'
import type { Owner } from '../plan/owner.ts'
import { lockHost } from '../plan/state-folder.ts'
import { UndoStack } from '../plan/undo.ts'
import { within } from '../sys/netns.ts'
import { formatAddress, type IpAddress, type IpPrefix, parseAddress, parsePrefix } from '../wire/ip-address.ts'
import { refuseProblems } from './check-failure.ts'
import { ownerOf, type Plugin } from './plugin.ts'

interface Remembered {
  /** What the rules are about. */
  readonly addresses: readonly string[]
}

const LARGEST_TABLE = 0xffffffff

export const sbr: Plugin = {
  add: (request) => {
    const { environment, config, context } = request
    const previous = requirePreviousResult(config)
    const options = optionsOf(config, previous, environment.ifname)
    const owner = ownerOf(request)
    using netns = openContainerNetns(environment, context)
    // Two interfaces of a container that look for an unused table at the same time must not find the same.
    using _lock = lockHost(context.state)
    using rt = within(netns, openRtnetlink)
    using undo = new UndoStack(context.warn)
    undo.push('remembered addresses', bookOf(context).restorer(owner))
    bookOf(context).write(owner, netns, { addresses: options.addresses.map(({ prefix }) => formatAddress(prefix.address)) })
    routeBySource(rt, indexOf(rt, environment.ifname), options, undo)
    undo.commit()
    return previous
  },
  del: (request) => remove(ownerOf(request), request.context, request.environment),
  check: ({ environment, config, context }) => {
    const options = optionsOf(config, requirePreviousResult(config), environment.ifname)
    using netns = openContainerNetns(environment, context)
    using rt = within(netns, openRtnetlink)
    const missing = missingSources(rt, indexOf(rt, environment.ifname), options)
    refuseProblems(`The routing by source of "${environment.ifname}" is not whole`, missing)
  },
  gc: ({ config, context }) => {
    const valid = parseValidAttachments(config.raw)
    if (valid !== undefined) collectStale(bookOf(context), { network: config.name, valid, takeBack: (owner) => remove(owner, context) })
  },
  status: ({ config }) => void tableOf(config),
}

function bookOf({ state }: PlanContext): AttachmentBook<Remembered> {
  return new AttachmentBook(state, 'sbr')
}

/** @param environment Of DEL; GC knows of no namespace but the one that is remembered. */
function remove(owner: Owner, context: PlanContext, environment?: Environment): void {
  const entry = bookOf(context).read(owner)
  using netns = environment === undefined ? entry && openRememberedNetns(entry) : findContainerNetns(environment, context, entry)
  if (netns !== undefined) {
    using rt = within(netns, openRtnetlink)
    forgetSources(rt, owner.ifname, entry?.data.addresses ?? [])
  }
  bookOf(context).remove(owner)
}

/** Those that ADD has named, and those that the interface has: an attachment that the reference plugin made is in no book. */
function forgetSources(rt: NetlinkSocket, ifname: string, remembered: readonly string[]): void {
  const index = findLink(rt, ifname)?.index
  const present = index === undefined ? [] : addressesOf(rt, index).map(({ address }) => formatAddress(address))
  for (const text of new Set([...remembered, ...present])) {
    const address = parseAddress(text)
    if (address !== undefined) forgetSource(rt, address)
  }
}

/** @throws TsnetError CNI code 7 for a bad value, or when the interface has no address */
function optionsOf(config: RawConfig, previous: Result, ifname: string): SourceTablesOptions {
  const { raw } = config
  const gateways = (optionalStrings(raw, 'gateways') ?? []).map((text, i) => {
    const gateway = parseAddress(text)
    if (gateway === undefined) throw invalidField(`gateways[${i}]`, text, 'an IP address')
    return gateway
  })
  const addresses = ownIps(previous, ifname).flatMap(({ address, gateway }) => {
    const prefix = parsePrefix(address)
    return prefix === undefined ? [] : [sourceAddress(prefix, gateway === undefined ? undefined : parseAddress(gateway), gateways)]
  })
  if (addresses.length === 0) {
    throw new TsnetError('TSNET_CONFIG', `Cannot route by source: the prevResult has no address of "${ifname}"`, { cniCode: CNI_CODE.invalidConfig })
  }
  const table = tableOf(config)
  return { addresses, ...(table !== undefined && { table }), addSourceHints: optionalBoolean(raw, 'addSourceHints') ?? false }
}

function tableOf({ raw }: RawConfig): number | undefined {
  return optionalInteger(raw, 'table', { min: 1, max: LARGEST_TABLE })
}

/** A gateway of the configuration's beats that of the result. */
function sourceAddress(prefix: IpPrefix, own: IpAddress | undefined, gateways: readonly IpAddress[]) {
  const gateway = gateways.find(({ family }) => family === prefix.address.family) ?? own
  return { prefix, ...(gateway !== undefined && { gateway }) }
}

/** Of the interface that the call is about, or of none that the result names. */
function ownIps({ ips, interfaces }: Result, ifname: string): readonly ResultIp[] {
  return ips.filter(({ interface: index }) => {
    const link = index === undefined ? undefined : interfaces[index]
    return link === undefined || (link.name === ifname && link.sandbox !== undefined)
  })
}

function indexOf(rt: NetlinkSocket, ifname: string): number {
  const index = findLink(rt, ifname)?.index
  if (index !== undefined) return index
  throw new TsnetError('TSNET_LINK', `Cannot route by source: the namespace has no interface "${ifname}"`, {
    hint: 'Put sbr behind the plugin that makes the interface',
  })
}
