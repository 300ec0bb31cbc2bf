/**
 * Serves plugins and keeps leases, in a thread that does nothing else: one poll(2) over listener, connections and packet
 * sockets, since other namespaces allow for nothing but synchronous code.
 */
import { closeSync } from 'node:fs'
import type { Log } from '../agent/log.ts'
import type { Moment } from '../dhcp/client-message.ts'
import { describe } from '../error.ts'
import { poll } from '../sys/poll.ts'
import { now, sinceBoot } from '../sys/time.ts'
import { acceptUnix, peerUserID } from '../sys/unix-socket.ts'
import { Conversation } from './conversation.ts'
import type { Leases } from './leases.ts'
import { errorResponse, PROTOCOL } from './protocol.ts'

const MOST_CONNECTIONS = 256
/** How long a peer may take to send its request, and to take an answer. */
const REQUEST_TIMEOUT_MS = 2_000
const SEND_TIMEOUT_SECONDS = 2
/** The clock of poll(2) stands still while the machine sleeps, and that of leases does not. */
const LONGEST_WAIT_MS = 60_000

export interface ServerOptions {
  /** A socket that listens. */
  readonly listener: number
  /** Becomes readable, or is closed at its other end, when the server has to stop. */
  readonly stop: number
  /** The user whose requests are served, beside root's. */
  readonly userID: number
  /** How long an answer may take, milliseconds. */
  readonly patienceMs: number
  readonly leases: Leases
  readonly log: Log
}

/** Returns when it has to stop. */
export function runServer(options: ServerOptions): void {
  const { stop, listener, leases } = options
  const conversations = new Set<Conversation>()
  try {
    for (;;) {
      const fds = [stop, listener, ...[...conversations].map(({ fd }) => fd), ...leases.fds]
      const ready = new Set(poll(fds, undefined, waitMs(leases, conversations)))
      if (ready.has(stop)) return
      leases.onReadable(ready, moment())
      for (const conversation of conversations) if (ready.has(conversation.fd)) converse(conversation, options)
      dropSlow(conversations, options)
      leases.onTime(moment())
      for (const conversation of conversations) if (conversation.isClosed) conversations.delete(conversation)
      // Last: a descriptor that is closed above may be given to a new connection.
      if (ready.has(listener)) acceptAll(conversations, options)
    }
  } finally {
    leases[Symbol.dispose]()
    for (const conversation of conversations) conversation[Symbol.dispose]()
  }
}

function moment(): Moment {
  return { now: sinceBoot(), random: Math.random }
}

function waitMs(leases: Leases, conversations: ReadonlySet<Conversation>): number {
  const arriving = [...conversations].some(({ isArriving }) => isArriving)
  return Math.min(arriving ? REQUEST_TIMEOUT_MS : LONGEST_WAIT_MS, Math.max(0, leases.wakeAt - sinceBoot()))
}

/** A listening socket that was handed down may block, so it is asked each time. */
function acceptAll(conversations: Set<Conversation>, options: ServerOptions): void {
  do accept(conversations, options)
  while (poll([options.listener], undefined, 0).length > 0)
}

function accept(conversations: Set<Conversation>, { listener, userID, patienceMs, log }: ServerOptions): void {
  const fd = acceptUnix(listener, SEND_TIMEOUT_SECONDS)
  if (fd === undefined) return
  const peer = peerUserID(fd)
  const refusal = peer !== 0 && peer !== userID ? `user ${peer ?? 'unknown'} may not use it` : undefined
  if (refusal !== undefined || conversations.size >= MOST_CONNECTIONS) {
    closeSync(fd)
    return log.warn('refused a connection', { reason: refusal ?? 'too many wait already' })
  }
  const conversation = new Conversation(fd, now())
  if (conversation.greet({ tsnet: 'dhcp', protocol: PROTOCOL, patienceMs })) conversations.add(conversation)
  else conversation[Symbol.dispose]()
}

/** Whoever says anything but one request, and waits for its answer, is done with. */
function converse(conversation: Conversation, { leases, log }: ServerOptions): void {
  if (conversation.isClosed) return
  try {
    const request = conversation.read()
    if (request === undefined) return
    log.detail('request', { command: request.command })
    const cancel = leases.serve(request, (response) => conversation.answer(response), moment())
    if (!conversation.isClosed) conversation.cancel = cancel
  } catch (error) {
    const { cancel } = conversation
    log.detail('refused a request', { reason: describe(error) })
    conversation.answer(errorResponse(error))
    cancel?.()
  }
}

function dropSlow(conversations: ReadonlySet<Conversation>, { log }: ServerOptions): void {
  for (const conversation of conversations) {
    if (conversation.isClosed || !conversation.isArriving || now() - conversation.since <= REQUEST_TIMEOUT_MS) continue
    conversation[Symbol.dispose]()
    log.warn('closed a connection', { reason: 'its request did not arrive' })
  }
}
