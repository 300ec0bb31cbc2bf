/**
 * The client's side of DHCP as a function: state and event in, state and what to do out. It knows no clock, no chance and no
 * socket. @see RFC 2131, 4.4, figure 5
 */
import { asking, type ClientSettings, type Moment, newID, pauseMs, type Sending, type ServerAddress, serverOf, toServer } from './client-message.ts'
import { type Answer, type DhcpLease, readLease } from './lease.ts'
import { BOOTREPLY, type DhcpMessage, MESSAGE } from './message.ts'
import type { Options } from './option.ts'

/** Asking whoever answers; `former` is a lease that was lost: nothing but its address will do, and it is never given up. */
export interface Selecting extends Sending {
  readonly kind: 'selecting'
  readonly giveUpAt: number
  readonly former?: DhcpLease
  /** What was wrong with the last answer. */
  readonly refusal?: string
}

/** Asking for what was offered. */
export interface Requesting extends Sending {
  readonly kind: 'requesting'
  readonly giveUpAt: number
  readonly former?: DhcpLease
  readonly refusal?: string
  readonly address: string
  readonly server: string
  /** How many times what was offered has been asked for. */
  readonly requests: number
}

export interface Bound {
  readonly kind: 'bound'
  readonly lease: DhcpLease
}

/** Asking the server that gave the lease (renewing), or any (rebinding), for more time. */
export interface Extending extends Sending {
  readonly kind: 'renewing' | 'rebinding'
  readonly lease: DhcpLease
}

export interface Failed {
  readonly kind: 'failed'
  readonly reason: string
}

export type ClientState = Selecting | Requesting | Bound | Extending | Failed

export type ClientEvent = { readonly kind: 'time' } | ({ readonly kind: 'answer' } & Answer)

export type Action =
  /** To `server`, or to everybody. */
  | { readonly kind: 'send'; readonly message: DhcpMessage; readonly server?: ServerAddress }
  /** The lease is the client's, or has more time. */
  | { readonly kind: 'bound'; readonly lease: DhcpLease; readonly how: 'acquired' | 'renewed' | 'rebound' | 'restored' }
  /** The address must not be used any more. */
  | { readonly kind: 'withdraw'; readonly lease: DhcpLease; readonly reason: string }

export interface Step {
  readonly state: ClientState
  readonly actions: readonly Action[]
}

/** A server that does not confirm what it has offered is not asked more often. */
const MOST_REQUESTS = 4
/** @returns The beginning: a DISCOVER. @param former A lease whose address alone is wanted. */
export function startClient(settings: ClientSettings, moment: Moment, former?: DhcpLease): Step {
  const { now } = moment
  const giveUpAt = former === undefined ? now + settings.resendTimeoutMs : Number.MAX_SAFE_INTEGER
  const state = {
    kind: 'selecting',
    giveUpAt,
    ...(former && { former }),
    xid: newID(moment),
    since: now,
    sentAt: now,
    attempt: 0,
    resendAt: now,
  } as const
  return onTime(state, settings, moment)
}

export function step(state: ClientState, event: ClientEvent, { settings, moment }: { settings: ClientSettings; moment: Moment }): Step {
  return event.kind === 'time' ? onTime(state, settings, moment) : onAnswer(state, event, { settings, moment })
}

/** @returns When the client has to be told the time, in the moment's milliseconds. */
export function dueAt(state: ClientState): number {
  switch (state.kind) {
    case 'selecting':
    case 'requesting':
      return Math.min(state.resendAt, state.giveUpAt)
    case 'bound':
      return state.lease.renewAt
    case 'renewing':
      return Math.min(state.resendAt, state.lease.rebindAt)
    case 'rebinding':
      return Math.min(state.resendAt, state.lease.expireAt)
    case 'failed':
      return Number.MAX_SAFE_INTEGER
  }
}

function onTime(state: ClientState, settings: ClientSettings, moment: Moment): Step {
  const { now } = moment
  if (state.kind === 'failed' || now < dueAt(state)) return { state, actions: [] }
  if (state.kind === 'selecting' || state.kind === 'requesting') {
    if (now >= state.giveUpAt) return { state: { kind: 'failed', reason: state.refusal ?? 'no server has answered' }, actions: [] }
    return state.kind === 'requesting' && state.requests < MOST_REQUESTS ? request(state, settings, moment) : discover(state, settings, moment)
  }
  if (now >= state.lease.expireAt) return lose(state.lease, 'it has expired', { settings, moment })
  const kind = now >= state.lease.rebindAt ? 'rebinding' : 'renewing'
  const fresh = state.kind !== kind
  const sending = state.kind === 'bound' || fresh ? { xid: newID(moment), since: now, sentAt: now, attempt: 0, resendAt: now } : state
  return extend({ ...sending, kind, lease: state.lease }, settings, moment)
}

function onAnswer(state: ClientState, answer: Answer, context: { readonly settings: ClientSettings; readonly moment: Moment }): Step {
  const ignored = { state, actions: [] }
  if (state.kind === 'bound' || state.kind === 'failed') return ignored
  const { op, xid, chaddr, options } = answer.message
  if (op !== BOOTREPLY || xid !== state.xid || Buffer.compare(chaddr, context.settings.mac) !== 0) return ignored
  if (state.kind === 'selecting') return options.messageType === MESSAGE.offer ? onOffer(state, answer, context) : ignored
  if (options.messageType === MESSAGE.nak) return onNak(state, answer, context)
  return options.messageType === MESSAGE.ack ? onAck(state, answer, context) : ignored
}

function onOffer(state: Selecting, answer: Answer, { settings, moment }: { settings: ClientSettings; moment: Moment }): Step {
  const lease = readLease(answer, moment.now)
  if (typeof lease === 'string') return { state: { ...state, refusal: `a server's offer ${lease}` }, actions: [] }
  // The runtime knows the container by this address, and cannot be told of another.
  if (state.former !== undefined && lease.address !== state.former.address) return { state, actions: [] }
  const requesting: Requesting = { ...state, kind: 'requesting', address: lease.address, server: lease.server, requests: 0 }
  return request(requesting, settings, moment)
}

function onNak(state: Requesting | Extending, answer: Answer, context: { readonly settings: ClientSettings; readonly moment: Moment }): Step {
  const said = answer.message.options.message
  // Whatever else a stranger writes could turn or hide the line that it is printed in.
  const words = said === undefined || said === '' ? '' : `: ${JSON.stringify(said.slice(0, 64).replace(/[^ -~]/g, '?'))}`
  if (state.kind !== 'requesting') return lose(state.lease, `the server refuses it${words}`, context)
  if (answer.message.options.serverID !== state.server) return { state, actions: [] }
  const { address: _address, server, requests: _requests, ...rest } = state
  // Not at once: a server that offers and refuses would be asked without a pause.
  const selecting: Selecting = {
    ...rest,
    kind: 'selecting',
    xid: newID(context.moment),
    refusal: `the server ${server} refuses what it has offered${words}`,
  }
  return { state: selecting, actions: [] }
}

function onAck(state: Requesting | Extending, answer: Answer, { moment }: { moment: Moment }): Step {
  const lease = readLease(answer, state.sentAt)
  if (state.kind === 'requesting') {
    if (typeof lease === 'string') return { state: { ...state, refusal: `the server's confirmation ${lease}` }, actions: [] }
    if (lease.address !== state.address) return { state, actions: [] }
    return bind(lease, state.former === undefined ? 'acquired' : 'restored')
  }
  // An answer to the message before may come in late: what it grants must not be over.
  if (typeof lease === 'string' || lease.address !== state.lease.address || lease.expireAt <= moment.now) return { state, actions: [] }
  return bind(lease, state.kind === 'renewing' ? 'renewed' : 'rebound')
}

function bind(lease: DhcpLease, how: 'acquired' | 'renewed' | 'rebound' | 'restored'): Step {
  return { state: { kind: 'bound', lease }, actions: [{ kind: 'bound', lease, how }] }
}

function lose(lease: DhcpLease, reason: string, { settings, moment }: { settings: ClientSettings; moment: Moment }): Step {
  const { state, actions } = startClient(settings, moment, lease)
  return { state, actions: [{ kind: 'withdraw', lease, reason }, ...actions] }
}

function discover(state: Selecting | Requesting, settings: ClientSettings, moment: Moment): Step {
  const { former, giveUpAt, refusal } = state
  // Whoever has offered before is asked anew, and must not answer to what is over.
  const xid = state.kind === 'requesting' ? newID(moment) : state.xid
  const selecting: Selecting = {
    kind: 'selecting',
    giveUpAt,
    ...(former && { former }),
    ...(refusal !== undefined && { refusal }),
    ...sent({ ...state, xid }, pauseMs(state.attempt, settings, moment), moment),
  }
  const wanted = former === undefined ? {} : { requestedAddress: former.address }
  const options: Options = { messageType: MESSAGE.discover, ...wanted, ...asking(settings) }
  return { state: selecting, actions: [{ kind: 'send', message: toServer(selecting, settings, { options }) }] }
}

function request(state: Requesting, settings: ClientSettings, moment: Moment): Step {
  const next: Requesting = { ...state, ...sent(state, pauseMs(0, settings, moment), moment), requests: state.requests + 1 }
  const options: Options = { messageType: MESSAGE.request, requestedAddress: state.address, serverID: state.server, ...asking(settings) }
  return { state: next, actions: [{ kind: 'send', message: toServer(next, settings, { options }) }] }
}

/** Without the options 50 and 54, by which servers tell it from a request for something new. @see RFC 2131, 4.3.2 */
function extend(state: Extending, settings: ClientSettings, moment: Moment): Step {
  const next: Extending = { ...state, ...sent(state, pauseMs(state.attempt, settings, moment), moment) }
  const options: Options = { messageType: MESSAGE.request, ...asking(settings) }
  const message = toServer(next, settings, { options, ciaddr: state.lease.address })
  return { state: next, actions: [{ kind: 'send', message, ...(state.kind === 'renewing' && { server: serverOf(state.lease) }) }] }
}

/** @returns What changes with a message that goes out. The xid stays, so that an answer to any of them will do. */
function sent({ xid, since, attempt }: Sending, pause: number, { now }: Moment): Sending {
  return { xid, since, sentAt: now, attempt: attempt + 1, resendAt: now + pause }
}
