/**
 * Accepts connections and serves their requests one after the other, in a thread that does nothing else: the kernel's
 * rtnetlink lock lets only one go on anyway, and blocking calls need no event loop (docs/decisions/0011).
 */
import { closeSync } from 'node:fs'
import { describe } from '../error.ts'
import { poll } from '../sys/poll.ts'
import { now } from '../sys/time.ts'
import { acceptUnix, peerUserID } from '../sys/unix-socket.ts'
import { Connection, type Frame } from './connection.ts'
import { encodeFrame, KIND } from './frame.ts'
import type { Log } from './log.ts'

/** Beyond it, callers are sent away to one shot. Not sooner: a hundred one-shot processes at once would slow down everything. */
const LONGEST_QUEUE = 256
/** What all that wait may have sent. */
const MOST_BYTES = 32 << 20
/** How long a peer may take to send its request after it has connected, and to take an answer. */
const REQUEST_TIMEOUT_MS = 2_000
const SEND_TIMEOUT_SECONDS = 2
/** Who waits for his turn is told so often that the agent is there: a launcher takes five seconds of silence for its end. */
const REMIND_MS = 1_000
/** Requests. It takes some 10 ms. */
const TIDY_EVERY = 500
/** Who waits is told that somebody is here. */
const HELLO = encodeFrame(KIND.hello)
const STARTED = encodeFrame(KIND.started)
/** Who need not wait hears both at once: each frame wakes him. */
const HELLO_AND_STARTED = Buffer.concat([HELLO, STARTED])

/** A request that is complete, and has not been served. */
export interface Waiting {
  readonly connection: Connection
  readonly frame: Frame
  /** Whether its sender has been told that somebody is here. */
  readonly greeted: boolean
}

export interface ServerOptions {
  /** A socket that listens. */
  readonly listener: number
  /** Becomes readable, or is closed at its other end, when the server has to stop. */
  readonly stop: number
  /** The user whose requests are served, beside root's. */
  readonly userID: number
  /** Milliseconds without a request after which the server stops by itself; absent: never. */
  readonly idleMs?: number
  /** Hears, before one is served, which that is and which wait behind it. */
  readonly prepare: (waiting: readonly Waiting[]) => void
  /** Answers a complete frame. What it throws closes the connection. */
  readonly serve: (connection: Connection, frame: Frame) => void
  /** Gives memory back: a thread that never returns to its event loop is not asked to by V8. */
  readonly tidy: () => void
  readonly log: Log
}

/** @returns Why it stopped. */
export function runServer(options: ServerOptions): 'stopped' | 'idle' {
  using state = new Connections()
  let lastUse = now()
  let lastReminder = now()
  let served = 0
  for (;;) {
    const ready = new Set(poll([options.stop, options.listener, ...state.arriving.map(({ fd }) => fd)], undefined, waitMs(options, state, lastUse)))
    if (ready.has(options.stop)) return 'stopped'
    if (ready.has(options.listener)) acceptAll(options, state)
    for (const connection of [...state.arriving]) if (ready.has(connection.fd)) read(connection, options, state)
    dropSlow(options, state)
    if (now() - lastReminder >= REMIND_MS) {
      for (const { connection } of state.queue) connection.send(HELLO)
      lastReminder = now()
    }
    const next = state.queue.shift()
    if (next !== undefined) {
      options.prepare([next, ...state.queue])
      serve(next, options)
      if (++served % TIDY_EVERY === 0) options.tidy()
      lastUse = now()
    } else if (options.idleMs !== undefined && state.arriving.length === 0 && !ready.has(options.listener) && now() - lastUse >= options.idleMs) {
      return 'idle'
    }
  }
}

class Connections implements Disposable {
  /** Those whose request is not complete. */
  arriving: Connection[] = []
  readonly queue: Waiting[] = []

  get isFull(): boolean {
    const bytes = (sizes: readonly number[]) => sizes.reduce((sum, size) => sum + size, 0)
    if (this.arriving.length + this.queue.length >= LONGEST_QUEUE) return true
    return bytes(this.arriving.map(({ size }) => size)) + bytes(this.queue.map(({ connection }) => connection.size)) > MOST_BYTES
  }

  remove(connection: Connection): void {
    this.arriving = this.arriving.filter((one) => one !== connection)
  }

  /** Who has not been served finds the connection closed, and goes on in one shot. */
  [Symbol.dispose](): void {
    for (const connection of this.arriving) connection[Symbol.dispose]()
    for (const { connection } of this.queue) connection[Symbol.dispose]()
  }
}

/** While something is to be done, new connections are looked at without waiting. */
function waitMs({ idleMs }: ServerOptions, { arriving, queue }: Connections, lastUse: number): number {
  if (queue.length > 0) return 0
  if (arriving.length > 0) return REQUEST_TIMEOUT_MS
  return idleMs === undefined ? -1 : Math.max(0, lastUse + idleMs - now())
}

/** All are told at once that somebody is here. A listening socket that was handed down may block, so it is asked each time. */
function acceptAll(options: ServerOptions, state: Connections): void {
  for (let i = 0; i <= LONGEST_QUEUE; i++) {
    accept(options, state)
    if (poll([options.listener], undefined, 0).length === 0) return
  }
}

function accept(options: ServerOptions, state: Connections): void {
  const { listener, userID, log } = options
  const fd = acceptUnix(listener, SEND_TIMEOUT_SECONDS)
  if (fd === undefined) return
  const peer = peerUserID(fd)
  const refusal = peer !== 0 && peer !== userID ? `user ${peer ?? 'unknown'} may not use it` : state.isFull ? 'too many wait already' : undefined
  if (refusal !== undefined) {
    closeSync(fd)
    return log.warn('refused a connection', { reason: refusal })
  }
  const connection = new Connection(fd, now())
  const isNext = state.queue.length === 0
  if (!isNext && !connection.send(HELLO)) return connection[Symbol.dispose]()
  state.arriving.push(connection)
  // A launcher sends before it listens: mostly all is there.
  read(connection, options, state, !isNext)
  if (isNext && state.arriving.includes(connection) && !connection.send(HELLO)) drop(connection, state)
}

function drop(connection: Connection, state: Connections): void {
  state.remove(connection)
  connection[Symbol.dispose]()
}

function read(connection: Connection, { log }: ServerOptions, state: Connections, greeted = true): void {
  try {
    const frame = connection.read()
    if (frame === undefined) return
    state.remove(connection)
    state.queue.push({ connection, frame, greeted })
  } catch (error) {
    drop(connection, state)
    log.detail('closed a connection', { reason: describe(error) })
  }
}

function dropSlow({ log }: ServerOptions, state: Connections): void {
  const slow = state.arriving.filter(({ since }) => now() - since > REQUEST_TIMEOUT_MS)
  for (const connection of slow) {
    drop(connection, state)
    log.warn('closed a connection', { reason: 'its request did not arrive' })
  }
}

/** Saying that it begins is how a request that nobody waits for any more is found out, before anything is changed. */
function serve({ connection, frame, greeted }: Waiting, options: ServerOptions): void {
  using _connection = connection
  if (connection.isHungUp() || !connection.send(greeted ? STARTED : HELLO_AND_STARTED))
    return options.log.detail('dropped a request', { reason: 'nobody waits for it' })
  try {
    options.serve(connection, frame)
  } catch (error) {
    options.log.warn('closed a connection', { reason: describe(error) })
  }
}
