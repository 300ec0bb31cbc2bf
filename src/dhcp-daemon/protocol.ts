/**
 * What plugin and daemon say to each other: one line of JSON each, the daemon's greeting first. It is no protocol of others:
 * containernetworking/plugins' daemon speaks Go's gob, so plugin and daemon have to be of one kind.
 */
import { isObject, type JsonObject, optionalArray, optionalInteger, optionalObject, optionalObjects, optionalString } from '../cni/json.ts'
import { checkContainerID, checkIfname, checkNetworkName } from '../cni/request.ts'
import { parseValidAttachments, type ValidAttachment } from '../cni/valid-attachments.ts'
import type { DhcpLease } from '../dhcp/lease.ts'
import { LONGEST_VALUE, type RawOption } from '../dhcp/option.ts'
import { describe, TsnetError } from '../error.ts'
import type { Owner } from '../plan/owner.ts'

export const DEFAULT_SOCKET = '/run/cni/dhcp.sock'
export const PROTOCOL = 1
/** Bytes of a line: a list of attachments to keep may be long. */
export const LARGEST_LINE = 1 << 20

const LONGEST_PATH = 4096
const MOST_OPTIONS = 64

/** Says that somebody is there, and how long an answer may take, milliseconds. */
export interface Greeting {
  readonly tsnet: 'dhcp'
  readonly protocol: number
  readonly patienceMs: number
}

/** What is asked for, and what is said along with it. */
export interface Wishes {
  /** Option 61, its type byte included. */
  readonly clientID: Uint8Array
  /** Codes of the options that servers are asked for. */
  readonly request: readonly number[]
  readonly provide: readonly RawOption[]
}

export type Request =
  | { readonly command: 'acquire'; readonly owner: Owner; readonly netns: { readonly path: string; readonly inode: number }; readonly wishes: Wishes }
  | { readonly command: 'release' | 'check'; readonly owner: Owner }
  | { readonly command: 'collect'; readonly network: string; readonly valid: readonly ValidAttachment[] }
  | { readonly command: 'status' }

export interface Held {
  readonly lease: DhcpLease
  /** Of the interface, bytes. */
  readonly linkMtu: number
}

export type Response =
  | { readonly held?: Held }
  | { readonly error: { readonly code: string; readonly cniCode: number; readonly message: string; readonly hint?: string } }

export function formatLine(value: Greeting | Response | JsonObject): Buffer {
  return Buffer.from(`${JSON.stringify(value)}\n`)
}

/** @returns The JSON of a request. */
export function formatRequest(request: Request): JsonObject {
  switch (request.command) {
    case 'acquire':
      return { command: 'acquire', ...names(request.owner), netns: request.netns, ...formatWishes(request.wishes) }
    case 'release':
    case 'check':
      return { command: request.command, ...names(request.owner) }
    case 'collect':
      return { command: 'collect', network: request.network, 'cni.dev/valid-attachments': request.valid }
    case 'status':
      return { command: 'status' }
  }
}

/** @throws TsnetError for whatever is no request, CNI code 4, 6 or 7 */
export function parseRequest(json: unknown): Request {
  if (!isObject(json)) throw protocolError('its request is no object')
  const command = optionalString(json, 'command')
  switch (command) {
    case 'acquire':
      return { command, owner: parseOwner(json), netns: parseNetns(json), wishes: parseWishes(json) }
    case 'release':
    case 'check':
      return { command, owner: parseOwner(json) }
    case 'collect':
      return { command, network: parseNetwork(json), valid: parseValid(json) }
    case 'status':
      return { command }
    default:
      throw protocolError('its command is unknown')
  }
}

export function errorResponse(error: unknown): Response {
  const own = error instanceof TsnetError ? error : undefined
  const { code = 'TSNET_DHCP', cniCode = 999, hint } = own ?? {}
  return { error: { code, cniCode, message: describe(error), ...(hint !== undefined && { hint }) } }
}

export function formatWishes({ clientID, request, provide }: Wishes): JsonObject {
  return { clientID: hexText(clientID), request, provide: provide.map(({ code, payload }) => ({ code, value: hexText(payload) })) }
}

/** @throws TsnetError TSNET_CONFIG, CNI code 7 */
export function parseWishes(json: JsonObject): Wishes {
  const request = optionalArray(json, 'request') ?? []
  const provide = optionalObjects(json, 'provide') ?? []
  if (provide.length > MOST_OPTIONS) throw protocolError('its request has too many options')
  return {
    clientID: hexBytes(json, 'clientID'),
    request: request.map((value) => code({ code: value })),
    provide: provide.map((option) => ({ code: code(option), payload: hexBytes(option, 'value') })),
  }
}

/** @throws TsnetError CNI code 4 or 7 */
export function parseOwner(json: JsonObject): Owner {
  const owner = { network: parseNetwork(json), containerID: optionalString(json, 'containerID') ?? '', ifname: optionalString(json, 'ifname') ?? '' }
  checkContainerID(owner.containerID)
  checkIfname(owner.ifname)
  return owner
}

/** @throws TsnetError CNI code 7 */
export function parseNetns(json: JsonObject): { readonly path: string; readonly inode: number } {
  const netns = optionalObject(json, 'netns') ?? {}
  const path = optionalString(netns, 'path') ?? ''
  const inode = optionalInteger(netns, 'inode', { min: 1, max: 2 ** 32 })
  if (!path.startsWith('/') || path.length > LONGEST_PATH || path.includes('\0') || inode === undefined)
    throw protocolError('its request names no namespace')
  return { path, inode }
}

export function protocolError(why: string): TsnetError {
  return new TsnetError('TSNET_PROTOCOL', `Cannot understand the other end of the DHCP daemon's socket: ${why}`)
}

function names({ network, containerID, ifname }: Owner): Owner {
  return { network, containerID, ifname }
}

function parseNetwork(json: JsonObject): string {
  const network = optionalString(json, 'network') ?? ''
  checkNetworkName(network)
  return network
}

/** Who names no list has not said that nothing is alive. */
function parseValid(json: JsonObject): readonly ValidAttachment[] {
  const valid = parseValidAttachments(json)
  if (valid === undefined) throw protocolError('its request lists no attachments')
  return valid
}

function code(json: JsonObject): number {
  const number = optionalInteger(json, 'code', { min: 1, max: 254 })
  if (number === undefined) throw protocolError('an option has no code')
  return number
}

function hexText(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

function hexBytes(json: JsonObject, key: string): Uint8Array {
  const text = optionalString(json, key) ?? ''
  if (!/^([0-9a-f]{2})+$/.test(text) || text.length > 2 * LONGEST_VALUE) throw protocolError(`"${key}" is no value of an option`)
  return Buffer.from(text, 'hex')
}
