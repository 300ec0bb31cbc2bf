/** The kernel's events, as far as they may mean that something of ours is gone. */
import { closeSync, writeSync } from 'node:fs'
import { isErrno } from '../error.ts'
import { EventSocket } from '../netlink/event-socket.ts'
import { waitReadable } from '../sys/libc.ts'
import { openPipe } from '../sys/pipe.ts'
import { RTM_DELADDR } from '../wire/address.ts'
import { RTM_DELLINK, RTM_NEWLINK } from '../wire/link.ts'
import type { Message } from '../wire/netlink-message.ts'
import type { Cause } from './cause.ts'
import { LinkMemory } from './link-memory.ts'

// include/uapi/linux/rtnetlink.h
const RTM_NEWNETCONF = 80
// include/uapi/linux/netfilter/nf_tables.h: what deletes a table, chain, rule, set or element. What comes takes nothing of ours away.
const NFT_MSG_DELETES: readonly number[] = [2, 5, 8, 11, 14]
/** Milliseconds in which what comes is gathered, so that a thousand events are not a thousand turns of the loop. */
const GATHER_MS = 20

const LINK_CAUSES: ReadonlyMap<number, Cause> = new Map([
  [RTM_NEWLINK, 'links changed'],
  [RTM_DELLINK, 'links changed'],
  [RTM_DELADDR, 'addresses were deleted'],
  [RTM_NEWNETCONF, 'switches changed'],
])

const LINK_TYPES: readonly number[] = [RTM_NEWLINK, RTM_DELLINK]

interface Source {
  readonly socket: EventSocket
  readonly causeOf: (message: Message) => Cause | undefined
}

/** Listens from the moment that it is made, in the namespace that the process is in. */
export class KernelEvents implements Disposable {
  readonly #sources: readonly Source[]
  readonly #stop = openPipe()
  #stopped = false

  constructor() {
    const memory = new LinkMemory()
    const links: Source = {
      socket: EventSocket.ofLinks(),
      causeOf: (message) => (LINK_TYPES.includes(message.type) && !memory.isNews(message) ? undefined : LINK_CAUSES.get(message.type)),
    }
    const rules = openRules()
    this.#sources = rules === undefined ? [links] : [links, { socket: rules, causeOf: ruleCause }]
  }

  /** Calls `onCause` until {@link stop}. @throws KernelError when a socket cannot be read */
  async run(onCause: (cause: Cause) => void): Promise<void> {
    const fds = [this.#stop.read, ...this.#sources.map(({ socket }) => socket.fd)]
    for (;;) {
      await waitReadable(fds)
      if (this.#stopped) return
      for (const { socket, causeOf } of this.#sources) {
        const complete = socket.drain((message) => {
          const cause = causeOf(message)
          if (cause !== undefined) onCause(cause)
        })
        if (!complete) onCause('events were lost')
      }
      await new Promise((resolve) => setTimeout(resolve, GATHER_MS))
    }
  }

  /** Ends {@link run}. */
  stop(): void {
    this.#stopped = true
    writeSync(this.#stop.write, '.')
  }

  /** Only when {@link run} has ended: it waits on these descriptors. */
  [Symbol.dispose](): void {
    for (const { socket } of this.#sources) socket[Symbol.dispose]()
    for (const fd of [this.#stop.read, this.#stop.write]) closeSync(fd)
  }
}

/** @returns undefined where the kernel has no nf_tables, whose rules then cannot change. */
function openRules(): EventSocket | undefined {
  try {
    return EventSocket.ofRules()
  } catch (error) {
    if (isErrno(error, 'EPROTONOSUPPORT')) return undefined
    throw error
  }
}

function ruleCause({ type }: Message): Cause | undefined {
  return NFT_MSG_DELETES.includes(type & 0xff) ? 'rules were deleted' : undefined
}
