/** The verbs of connection tracking: list and delete. @see kernel: net/netfilter/nf_conntrack_netlink.c */
import { isErrno } from '../error.ts'
import { type Conntrack, decodeConntrack, encodeConntrack, IPCTNL_MSG_CT_DELETE, IPCTNL_MSG_CT_GET } from '../wire/conntrack.ts'
import { NETLINK_NETFILTER, NetlinkSocket } from './socket.ts'

/** A conntrack socket of the namespace that the thread is in. The caller owns it. */
export function openConntrack(): NetlinkSocket {
  return new NetlinkSocket(NETLINK_NETFILTER)
}

/** @param family AF_INET or AF_INET6. @param protocol IPPROTO number that the kernel may narrow the list to. */
export function listConntrack(ct: NetlinkSocket, family: number, protocol: number): readonly Conntrack[] {
  const wanted = { original: { protocol: { number: protocol } }, filter: { originalFlags: CTA_FILTER_F_CTA_PROTO_NUM, replyFlags: 0 } }
  const all = ct.dump({ operation: 'list the tracked connections', type: IPCTNL_MSG_CT_GET, body: (w) => encodeConntrack(w, family, wanted) }, (m) =>
    decodeConntrack(m.body),
  )
  return all.filter((entry) => entry.original?.protocol?.number === protocol)
}

/** @returns Whether the entry was still there. */
export function deleteConntrack(ct: NetlinkSocket, family: number, entry: Conntrack): boolean {
  const { original, id, zone } = entry
  const key = { ...(original && { original }), ...(zone !== undefined && { zone }), ...(id && { id }) }
  try {
    ct.execute({ operation: 'delete a tracked connection', type: IPCTNL_MSG_CT_DELETE, body: (w) => encodeConntrack(w, family, key) })
    return true
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false
    throw error
  }
}

/** @see net/netfilter/nf_conntrack_netlink.c, CTA_FILTER_FLAG */
const CTA_FILTER_F_CTA_PROTO_NUM = 1 << 3
