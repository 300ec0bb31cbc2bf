/**
 * Sockets for nf_tables and connection tracking. Closing one waits, up to 10 ms, until the kernel has destroyed what was deleted
 * from nf_tables last, by whomever in the namespace. So a process that stays keeps them, for the next who opens one.
 * @see net/netfilter/nf_tables_api.c, nft_rcv_nl_event()
 */
import { isAway } from '../sys/netns.ts'
import { NETLINK_NETFILTER, NetlinkSocket } from './socket.ts'

/** Those that nobody uses now; undefined where none is kept. */
let kept: KeptSocket[] | undefined

/** From now on sockets are kept: for a process that stays, in the namespace that it is in. */
export function keepNetfilterSockets(): void {
  kept ??= []
}

/** A socket of the namespace that the thread is in. The caller owns it. */
export function openNetfilter(): NetlinkSocket {
  if (kept === undefined || isAway()) return new NetlinkSocket(NETLINK_NETFILTER)
  const socket = kept.pop()
  socket?.limitTime()
  return socket ?? new KeptSocket(kept)
}

class KeptSocket extends NetlinkSocket {
  readonly #others: KeptSocket[]

  constructor(others: KeptSocket[]) {
    super(NETLINK_NETFILTER)
    this.#others = others
  }

  override [Symbol.dispose](): void {
    if (!this.isWhole) super[Symbol.dispose]()
    else if (!this.#others.includes(this)) this.#others.push(this)
  }
}
