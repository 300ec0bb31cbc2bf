/** The verbs of connection tracking: list and delete. @see kernel: net/netfilter/nf_conntrack_netlink.c */
import { EINVAL, ENOENT } from '../sys/errno.ts'
import { AF_INET } from '../wire/address.ts'
import type { ByteWriter } from '../wire/byte-writer.ts'
import {
  type Conntrack,
  CTA_FILTER_F_CTA_IP_DST,
  CTA_FILTER_F_CTA_IP_SRC,
  CTA_FILTER_F_CTA_PROTO_DST_PORT,
  CTA_FILTER_F_CTA_PROTO_NUM,
  decodeConntrack,
  encodeConntrack,
  IPCTNL_MSG_CT_DELETE,
  IPCTNL_MSG_CT_GET,
  type Tuple,
} from '../wire/conntrack.ts'
import { openNetfilter } from './netfilter-socket.ts'
import type { NetlinkSocket } from './socket.ts'

const AF_UNSPEC = 0

export type TrackedConnection = ReturnType<typeof decodeConntrack>

/** What connections have in common: what the tuples leave out is not compared. Source ports and zones never are. */
export interface ConntrackSelector {
  /** AF_INET or AF_INET6. */
  readonly family: number
  readonly original?: Tuple
  readonly reply?: Tuple
}

/** A conntrack socket of the namespace that the thread is in. The caller owns it. */
export function openConntrack(): NetlinkSocket {
  return openNetfilter()
}

/**
 * The kernel walks its whole table for it, taking a lock for each bucket: 3.5 ms with 262,144 of them, however few connections there are.
 * @param selector All connections without one.
 * @param isWorth Whether a message may hold what is looked for: decoding costs ten times as much as finding out.
 * @returns The connections that fit, and others that the kernel cannot tell from them: by IPv6 addresses, or before Linux 5.8
 */
export function listConntrack(ct: NetlinkSocket, selector?: ConntrackSelector, isWorth = (_: Buffer) => true): readonly TrackedConnection[] {
  const family = selector?.family ?? AF_UNSPEC
  const value = selector === undefined ? {} : filterOf(selector)
  const request = { operation: 'list the tracked connections', type: IPCTNL_MSG_CT_GET, body: (w: ByteWriter) => encodeConntrack(w, family, value) }
  return ct.dump(request, ({ body }) => (isWorth(body) ? [decodeConntrack(body)] : [])).flat()
}

/** @returns Whether the connection was still there: just this one, which its id tells from a later one between the same ends. */
export function deleteConntrack(ct: NetlinkSocket, { family, original, id, zone }: TrackedConnection): boolean {
  const key = { ...(original && { original }), ...(zone !== undefined && { zone }), ...(id && { id }) }
  const body = (w: ByteWriter) => encodeConntrack(w, family, key)
  return ct.execute({ operation: 'delete a tracked connection', type: IPCTNL_MSG_CT_DELETE, body }, ENOENT)
}

/**
 * Deletes all connections that fit, in one request: 20 times as fast as a list. A request without any tuple would delete
 * all connections there are. Kernels before 6.11, which do not look at the filter, take a tuple for that of one connection,
 * and refuse it because it is not whole: hence a selector must leave out an address.
 * @returns false when the kernel cannot, or tracks nothing; then nothing is deleted
 * @throws RangeError for a selector that some kernel would take for something else
 * @see net/netfilter/nf_conntrack_netlink.c, ctnetlink_del_conntrack()
 */
export function deleteSelected(ct: NetlinkSocket, selector: ConntrackSelector): boolean {
  const first = selector.original ?? selector.reply
  if (first === undefined || (first.ip?.v4Source !== undefined && first.ip.v4Destination !== undefined))
    throw new RangeError('A selector of connections to delete must have a tuple that lacks an address')
  if (selector.family !== AF_INET) throw new RangeError('The kernel cannot select connections to delete by IPv6 addresses')
  const body = (w: ByteWriter) => encodeConntrack(w, selector.family, filterOf(selector))
  return ct.execute({ operation: 'delete tracked connections', type: IPCTNL_MSG_CT_DELETE, body }, EINVAL)
}

function filterOf({ original, reply }: ConntrackSelector): Conntrack {
  const filter = { originalFlags: flagsOf(original), replyFlags: flagsOf(reply) }
  return { ...(original && { original }), ...(reply && { reply }), filter }
}

/**
 * By IPv6 addresses nothing is filtered: the kernel (5.8 to 6.18 at least) then finds those that have another address.
 * @see net/netfilter/nf_conntrack_netlink.c, ctnetlink_filter_match_tuple(), which takes what ipv6_addr_cmp() returns for equality
 */
function flagsOf({ ip, protocol }: Tuple = {}): number {
  return (
    (ip?.v4Source === undefined ? 0 : CTA_FILTER_F_CTA_IP_SRC) |
    (ip?.v4Destination === undefined ? 0 : CTA_FILTER_F_CTA_IP_DST) |
    (protocol?.number === undefined ? 0 : CTA_FILTER_F_CTA_PROTO_NUM) |
    (protocol?.destinationPort === undefined ? 0 : CTA_FILTER_F_CTA_PROTO_DST_PORT)
  )
}
