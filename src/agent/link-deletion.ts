/**
 * Links are deleted by another thread. The kernel takes them out of everything within a millisecond, under its rtnetlink lock, tells
 * so, and then keeps the sender for some 20 ms more, until nothing in it refers to them any longer. For that nobody need
 * wait: when it has been told, a link is gone for everybody (docs/decisions/0018).
 */
import { EventSocket } from '../netlink/event-socket.ts'
import { deleteLinks, findLink, prepareDeletion } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket, Request } from '../netlink/socket.ts'
import { ENODEV } from '../sys/errno.ts'
import { duplicate, hasLink } from '../sys/libc-agent.ts'
import { poll } from '../sys/poll.ts'
import { now } from '../sys/time.ts'
import { remainingMs } from '../sys/time-limit.ts'
import { RTM_DELLINK } from '../wire/link.ts'
import type { Message } from '../wire/netlink-message.ts'

/** When they are not gone after so long, the links are deleted in the plain way: perhaps the message was never sent. */
const PATIENCE_MS = 1_000
/** How often a bridge is looked for. */
const LOOK_MS = 1
/** The bridge tells of its ports by the same messages, with a family of its own. */
const AF_UNSPEC = 0

/** A message for the kernel, that somebody else sends. */
export interface Errand {
  /** Whoever sends closes it. */
  readonly fd: number
  readonly message: Uint8Array
}

/**
 * @param send Returns at once, and sends while this thread goes on.
 * @returns What `PlanContext.deleteLinks` promises. @throws KernelError when the kernel refuses
 */
export function deleteLinksBy(send: (errand: Errand) => void): (host: NetlinkSocket, indexes: readonly number[]) => void {
  return (host, indexes) => {
    const [first] = indexes
    if (first === undefined) return
    using events = EventSocket.ofLinksAlone()
    const { operation } = handOver(host, indexes, send)
    const end = now() + patienceMs()
    const standing = new Set(indexes)
    while (standing.size > 0) {
      const ready = poll([host.fd, events.fd], undefined, Math.max(0, end - now()))
      if (ready.length === 0 || now() > end) return deleteLinks(host, [...standing])
      // It was refused, or events were lost: there was no room for them.
      if (ready.includes(host.fd)) return void host.acknowledge(operation, ENODEV)
      events.drain((message) => standing.delete(goneBy(message)))
    }
    // What the kernel still does under its lock, such as the other end of a pair, is done when it answers.
    findLink(host, first)
  }
}

/**
 * The kernel tells that a bridge is gone 19 ms after it has taken it out of its lists, and holds its lock in between: then nobody
 * finds it any more, and whoever asks for the lock gets it when all is over.
 * @param send As for {@link deleteLinksBy}. @returns What `PlanContext.deleteBridge` promises. @throws KernelError when the kernel refuses
 */
export function deleteBridgeBy(send: (errand: Errand) => void): (host: NetlinkSocket, index: number) => void {
  return (host, index) => {
    const { operation } = handOver(host, [index], send)
    for (const end = now() + patienceMs(); hasLink(index); ) {
      if (poll([host.fd], undefined, LOOK_MS).length > 0) return void host.acknowledge(operation, ENODEV)
      if (now() > end) return deleteLinks(host, [index])
    }
  }
}

function handOver(host: NetlinkSocket, indexes: readonly number[], send: (errand: Errand) => void): Request {
  const request = prepareDeletion(host, indexes)
  // A copy, since all that a view belongs to would be sent to the other thread.
  send({ fd: duplicate(host.fd), message: Uint8Array.from(host.prepare(request)) })
  return request
}

function patienceMs(): number {
  return Math.min(PATIENCE_MS, remainingMs(PATIENCE_MS))
}

/** @returns The index of the link that is gone, -1 when none is. @see struct ifinfomsg */
function goneBy({ type, body }: Message): number {
  return type === RTM_DELLINK && body.length >= 8 && body[0] === AF_UNSPEC ? body.readInt32LE(4) : -1
}
