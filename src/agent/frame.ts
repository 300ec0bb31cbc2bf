/** The frames between launcher and agent, as native/README.md describes them: bytes to values and back. */
import { TsnetError } from '../error.ts'

export const PROTOCOL = 1
export const HEADER_SIZE = 12
/** Bytes after the header. */
export const LARGEST_REQUEST = 2 << 20

export const KIND = { hello: 1, request: 2, started: 3, response: 4, declined: 5, statusRequest: 6, status: 7 } as const

const MAGIC = Buffer.from('TSNA')
/** Two namespaces, each as device and inode of 8 bytes. */
const NAMESPACES_SIZE = 32

/** Device and inode of a namespace's file. */
export interface NamespaceID {
  readonly device: bigint
  readonly inode: bigint
}

/** Where a program is, and which it is: launcher and agent work for each other only where all of it is equal. */
export interface Identity {
  readonly network: NamespaceID
  readonly mount: NamespaceID
  readonly build: string
  readonly stateFolder: string
  /** Empty for the usual one. */
  readonly sysctlFolder: string
}

export interface Request {
  readonly caller: Identity
  /** The same when a request is repeated in one shot. */
  readonly token: string
  /** The name under which the launcher was executed. */
  readonly entry: string
  /** The launcher's CNI_ variables, and its TSNET_TIMEOUT. */
  readonly env: Readonly<Record<string, string>>
  /** All of its standard input. */
  readonly input: string
}

export interface Response {
  /** Exit status. */
  readonly status: number
  readonly output: string
  readonly problems: string
}

export interface Header {
  readonly kind: number
  /** Bytes that follow. */
  readonly size: number
}

/** @param bytes HEADER_SIZE of them. @throws TsnetError TSNET_PROTOCOL for anything else than a frame of this protocol */
export function decodeHeader(bytes: Buffer): Header {
  if (!MAGIC.equals(bytes.subarray(0, 4))) throw protocolError('it is no frame')
  const protocol = bytes.readUInt16LE(4)
  if (protocol !== PROTOCOL) throw protocolError(`it speaks version ${protocol} of the protocol, not ${PROTOCOL}`)
  return { kind: bytes.readUInt16LE(6), size: bytes.readUInt32LE(8) }
}

export function encodeFrame(kind: number, ...parts: readonly Uint8Array[]): Buffer {
  const header = Buffer.alloc(HEADER_SIZE)
  MAGIC.copy(header)
  header.writeUInt16LE(PROTOCOL, 4)
  header.writeUInt16LE(kind, 6)
  header.writeUInt32LE(
    parts.reduce((sum, part) => sum + part.length, 0),
    8,
  )
  return Buffer.concat([header, ...parts])
}

export function encodeResponse({ status, output, problems }: Response): Buffer {
  const number = Buffer.alloc(4)
  number.writeUInt32LE(status)
  return encodeFrame(KIND.response, number, field(output), field(problems))
}

/** @throws TsnetError TSNET_PROTOCOL */
export function decodeRequest(payload: Buffer): Request {
  const [build, stateFolder, sysctlFolder, token, entry, env, input] =
    payload.length < NAMESPACES_SIZE ? [] : fields(payload.subarray(NAMESPACES_SIZE))
  if (!build || !stateFolder || !sysctlFolder || !token || !entry || !env || !input) throw protocolError('its request lacks a field')
  const namespace = (at: number) => ({ device: payload.readBigUInt64LE(at), inode: payload.readBigUInt64LE(at + 8) })
  return {
    caller: {
      network: namespace(0),
      mount: namespace(16),
      build: build.toString('utf8'),
      stateFolder: stateFolder.toString('utf8'),
      sysctlFolder: sysctlFolder.toString('utf8'),
    },
    token: token.toString('latin1'),
    entry: entry.toString('utf8'),
    env: decodeEnvironment(env),
    input: input.toString('utf8'),
  }
}

/** @returns In what they differ, or undefined when they are equal. */
export function differenceOf(one: Identity, other: Identity): string | undefined {
  const same = (a: NamespaceID, b: NamespaceID) => a.device === b.device && a.inode === b.inode
  if (one.build !== other.build) return 'build'
  if (one.stateFolder !== other.stateFolder) return 'state folder'
  if (one.sysctlFolder !== other.sysctlFolder) return 'folder for kernel parameters'
  if (!same(one.network, other.network)) return 'network namespace'
  return same(one.mount, other.mount) ? undefined : 'mount namespace'
}

/** Of a variable that is there twice the first counts, as with getenv(3). */
function decodeEnvironment(bytes: Buffer): Readonly<Record<string, string>> {
  const env: Record<string, string> = Object.create(null) as Record<string, string>
  for (const entry of bytes.toString('utf8').split('\0')) {
    const end = entry.indexOf('=')
    if (end > 0) env[entry.slice(0, end)] ??= entry.slice(end + 1)
  }
  return env
}

/** @returns The fields of a payload: a length of four bytes and as many bytes, each. */
function fields(payload: Buffer): readonly Buffer[] {
  const found: Buffer[] = []
  for (let at = 0; at < payload.length; ) {
    if (payload.length - at < 4) throw protocolError('its request is cut off')
    const length = payload.readUInt32LE(at)
    if (length > payload.length - at - 4) throw protocolError('its request is cut off')
    found.push(payload.subarray(at + 4, at + 4 + length))
    at += 4 + length
  }
  return found
}

function field(text: string): Buffer {
  const bytes = Buffer.from(text)
  const length = Buffer.alloc(4)
  length.writeUInt32LE(bytes.length)
  return Buffer.concat([length, bytes])
}

function protocolError(why: string): TsnetError {
  return new TsnetError('TSNET_PROTOCOL', `Cannot understand the other end of the agent's socket: ${why}`)
}
