/** What the client writes, and how long it waits before it writes again. @see RFC 2131, 4.1 and table 5 */
import type { DhcpLease } from './lease.ts'
import { clientMessage, type DhcpMessage, MESSAGE } from './message.ts'
import type { Options, RawOption } from './option.ts'

/** What the client says of itself, and how long it waits. */
export interface ClientSettings {
  /** 6 bytes. */
  readonly mac: Uint8Array
  /** Option 61, its type byte included. */
  readonly clientID: Uint8Array
  /** Codes of option 55. */
  readonly request: readonly number[]
  /** More options, as bytes. */
  readonly provide: readonly RawOption[]
  /** Whether servers are asked to answer to everybody: for links that frames to this hardware address do not reach. */
  readonly broadcast: boolean
  /** The longest pause between two messages, milliseconds. */
  readonly resendMaxMs: number
  /** After how long without success a lease that somebody waits for is given up, milliseconds. */
  readonly resendTimeoutMs: number
}

/** An exchange that waits for an answer. */
export interface Sending {
  readonly xid: number
  /** When the exchange began, and when the last message went out. */
  readonly since: number
  readonly sentAt: number
  /** How many messages have gone out. */
  readonly attempt: number
  /** When to send the next. */
  readonly resendAt: number
}

/** The world as it is when something happens. */
export interface Moment {
  /** Milliseconds of a clock that counts on while the machine sleeps. */
  readonly now: number
  /** From 0 to 1. */
  readonly random: () => number
}

const FAST_PAUSE_MS = 2_000
const FAST_ATTEMPTS = 4
const FIRST_PAUSE_MS = 4_000
const JITTER_MS = 1_000
/** What answers may be as long as: a whole Ethernet frame without its IP and UDP headers. */
const LARGEST_MESSAGE = 1472

/** Where a server is, and the hardware address that leads there, 12 hexadecimal digits. */
export interface ServerAddress {
  readonly address: string
  readonly mac: string
}

/** @param attempt How many have gone out before. @returns How long to wait for an answer to the message that goes out, milliseconds. */
export function pauseMs(attempt: number, { resendMaxMs }: ClientSettings, { random }: Moment): number {
  const usual = attempt < FAST_ATTEMPTS ? FAST_PAUSE_MS : FIRST_PAUSE_MS * 2 ** Math.min(attempt - FAST_ATTEMPTS, 16)
  const pause = Math.min(usual, resendMaxMs)
  return pause + (2 * random() - 1) * Math.min(JITTER_MS, pause / 2)
}

/** @returns The message that gives a lease back. */
export function releaseMessage(lease: DhcpLease, { mac, clientID }: Pick<ClientSettings, 'mac' | 'clientID'>, moment: Moment): DhcpMessage {
  const options = { messageType: MESSAGE.release, serverID: lease.server, clientID }
  return clientMessage({ xid: newID(moment), chaddr: mac, ciaddr: lease.address, options })
}

/** @returns The options of every message that asks for something. */
export function asking({ clientID, request, provide }: ClientSettings): Options {
  return { parameters: Uint8Array.from(request), largestMessage: LARGEST_MESSAGE, clientID, unknown: provide }
}

export function toServer(
  { xid, since, sentAt }: Sending,
  { mac, broadcast }: ClientSettings,
  more: Pick<DhcpMessage, 'options'> & Partial<DhcpMessage>,
): DhcpMessage {
  return clientMessage({ xid, chaddr: mac, broadcast, seconds: Math.min(0xffff, Math.floor((sentAt - since) / 1000)), ...more })
}

export function serverOf({ server, serverMac }: DhcpLease): ServerAddress {
  return { address: server, mac: serverMac }
}

export function newID({ random }: Moment): number {
  return Math.floor(random() * 0x1_0000_0000) >>> 0
}
