/** Type `bandwidth`: limits what a container receives and sends. It comes after the plugin that has made the veth pair. */
import { macToText } from '../bridge/mac.ts'
import {
  createDetour,
  deleteDetour,
  findDetour,
  leaveDetour,
  limitIngress,
  missingEgressLimit,
  missingIngressLimit,
  takeDetour,
  unlimitIngress,
} from '../bridge/shaper.ts'
import { AttachmentBook } from '../chained/attachment-book.ts'
import { formatLinkName } from '../chained/chain-name.ts'
import { openContainerNetns } from '../chained/container-netns.ts'
import { collectStale } from '../chained/garbage.ts'
import { findPreviousResult, requirePreviousResult } from '../chained/previous-result.ts'
import { findPeer } from '../chained/veth-pair.ts'
import type { Result } from '../cni/result.ts'
import { parseValidAttachments } from '../cni/valid-attachments.ts'
import { TsnetError } from '../error.ts'
import { findLink, type ObservedLink, openRtnetlink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { PlanContext } from '../plan/attach.ts'
import type { Owner } from '../plan/owner.ts'
import { UndoStack } from '../plan/undo.ts'
import { type Netns, within } from '../sys/netns.ts'
import { parseBandwidth } from './bandwidth-config.ts'
import { refuseProblems } from './check-failure.ts'
import { NOTHING } from './device-result.ts'
import { ownerOf, type Plugin } from './plugin.ts'

interface Remembered {
  /** The ifb link. */
  readonly ifb: string
}

const PREFIX = 'bwp'

export const bandwidth: Plugin = {
  add: (request) => {
    const { environment, config, context } = request
    const limits = parseBandwidth(config)
    if (limits.ingress === undefined && limits.egress === undefined) return findPreviousResult(config) ?? NOTHING
    const previous = requirePreviousResult(config)
    const owner = ownerOf(request)
    using netns = openContainerNetns(environment, context)
    using host = openRtnetlink()
    using undo = new UndoStack(context.warn)
    const port = hostEnd(host, netns, environment.ifname)
    if (limits.ingress !== undefined) {
      limitIngress(host, port.index, limits.ingress)
      undo.push('limit to what is received', () => unlimitIngress(host, port.index))
    }
    if (limits.egress === undefined) {
      undo.commit()
      return previous
    }
    const name = chooseIfb(host, owner, context)
    undo.push('remembered ifb link', bookOf(context).restorer(owner))
    bookOf(context).write(owner, netns, { ifb: name })
    createDetour(host, { name, mtu: port.mtu ?? 0 }, limits.egress)
    undo.push('limit to what is sent', () => deleteDetour(host, name))
    takeDetour(host, port.index, name)
    undo.push('detour', () => leaveDetour(host, port.index))
    const result = withIfb(previous, host, name)
    undo.commit()
    return result
  },
  del: (request) => {
    using host = openRtnetlink()
    remove(host, ownerOf(request), request.context)
  },
  check: (request) => {
    const { environment, config, context } = request
    const { ingress, egress } = parseBandwidth(config)
    requirePreviousResult(config)
    using netns = openContainerNetns(environment, context)
    using host = openRtnetlink()
    const { index } = hostEnd(host, netns, environment.ifname)
    const name = bookOf(context).read(ownerOf(request))?.data.ifb ?? ifbName(ownerOf(request))
    const missing = [
      ...(ingress === undefined ? [] : missingIngressLimit(host, index, ingress)),
      ...(egress === undefined ? [] : missingEgressLimit(host, { index, name }, egress)),
    ]
    refuseProblems(`The bandwidth of "${environment.ifname}" is not limited as configured`, missing)
  },
  gc: ({ config, context }) => {
    const valid = parseValidAttachments(config.raw)
    if (valid === undefined) return
    using host = openRtnetlink()
    collectStale(bookOf(context), { network: config.name, valid, takeBack: (owner) => remove(host, owner, context) })
  },
  status: ({ config }) => void parseBandwidth(config),
}

function bookOf({ state }: PlanContext): AttachmentBook<Remembered> {
  return new AttachmentBook(state, 'bandwidth')
}

/** @returns The other end of the container's veth pair, which is on the host */
function hostEnd(host: NetlinkSocket, netns: Netns, ifname: string): ObservedLink {
  using rt = within(netns, openRtnetlink)
  const link = findLink(rt, ifname)
  const peer = link && findPeer(host, link, netns)
  if (peer !== undefined) return peer
  throw new TsnetError('TSNET_LINK', `Cannot limit the bandwidth of "${ifname}": it is not the end of a veth pair whose other end is on this host`, {
    hint: 'Put bandwidth behind a plugin that makes a veth pair: bridge, ptp or tsnet',
  })
}

/** The reference's name, which knows no interface: of a container that has several, the others get one of their own. */
function chooseIfb(host: NetlinkSocket, owner: Owner, context: PlanContext): string {
  const name = ifbName(owner)
  const taken = findLink(host, name) !== undefined || siblingHas(owner, name, context)
  return taken ? formatLinkName(PREFIX, owner.network, owner.containerID, owner.ifname) : name
}

function ifbName({ network, containerID }: Owner): string {
  return formatLinkName(PREFIX, network, containerID)
}

function siblingHas(owner: Owner, name: string, context: PlanContext): boolean {
  const book = bookOf(context)
  return book.siblingsOf(owner).some((sibling) => book.read(sibling)?.data.ifb === name)
}

/** What limits the host's end goes with it. Without an entry it was the reference plugin that made the link, unless somebody else's is called so. */
function remove(host: NetlinkSocket, owner: Owner, context: PlanContext): void {
  const book = bookOf(context)
  const recorded = book.read(owner)?.data.ifb
  const name = recorded ?? ifbName(owner)
  const isOthers = () => (recorded === undefined ? anybodyHas(name, context) : siblingHas(owner, name, context))
  if (findDetour(host, name) !== undefined && !isOthers()) deleteDetour(host, name)
  book.remove(owner)
}

/** The name is that of network and container id written one after the other: another network may come to the same. */
function anybodyHas(name: string, context: PlanContext): boolean {
  const book = bookOf(context)
  return book.networks().some((network) => book.owners(network).some((other) => book.read(other)?.data.ifb === name))
}

function withIfb(result: Result, host: NetlinkSocket, name: string): Result {
  const mac = findLink(host, name)?.address
  return { ...result, interfaces: [...result.interfaces, { name, ...(mac && { mac: macToText(mac) }) }] }
}
