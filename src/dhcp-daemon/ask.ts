/** Asks the daemon for something, and waits for the answer. */
import { isObject, type JsonObject, optionalInteger, optionalObject, optionalString, parseJson } from '../cni/json.ts'
import { CNI_CODE, isErrno, TsnetError } from '../error.ts'
import { LineClient } from '../sys/unix-client.ts'
import { formatLine, formatRequest, type Held, LARGEST_LINE, PROTOCOL, protocolError, type Request } from './protocol.ts'

/** Until the daemon says that it is there. */
const GREETING_MS = 5_000
const LONGEST_PATIENCE_MS = 25 * 3_600_000

/**
 * @param socket Path.
 * @returns What is held, for `acquire` and `check`
 * @throws TsnetError TSNET_NO_DHCP (CNI code 50) when no daemon answers; TSNET_PROTOCOL when something else does; what the daemon says
 */
export function askDaemon(socket: string, request: Request): Held | undefined {
  using client = connect(socket)
  const peer = client.peerUserID
  // Its word becomes a container's address and routes.
  if (peer !== 0 && peer !== process.geteuid?.()) throw protocolError(`user ${peer ?? 'unknown'} runs it, neither root nor this one`)
  const patienceMs = readGreeting(client)
  client.send(formatLine(formatRequest(request)))
  const json = parseLine(client.receive(patienceMs, LARGEST_LINE))
  const error = optionalObject(json, 'error')
  if (error !== undefined) throw toldError(error)
  return optionalObject(json, 'held') as Held | undefined
}

function connect(socket: string): LineClient {
  try {
    return new LineClient(socket)
  } catch (cause) {
    if (!isErrno(cause, 'ENOENT', 'ECONNREFUSED', 'ENOTDIR', 'EACCES', 'EAGAIN', 'ENOTSOCK')) throw cause
    throw noDaemon(socket, cause)
  }
}

function readGreeting(client: LineClient): number {
  const greeting = parseLine(client.receive(GREETING_MS, LARGEST_LINE))
  if (greeting['tsnet'] !== 'dhcp') throw protocolError('it is no DHCP daemon of tsnet')
  if (greeting['protocol'] !== PROTOCOL) throw protocolError(`it speaks version ${String(greeting['protocol'])} of the protocol, not ${PROTOCOL}`)
  return optionalInteger(greeting, 'patienceMs', { min: 0, max: LONGEST_PATIENCE_MS }) ?? 0
}

function parseLine(line: string): JsonObject {
  const json = parseJson(line, "the DHCP daemon's answer")
  if (!isObject(json)) throw protocolError('its answer is no object')
  return json
}

function toldError(error: JsonObject): TsnetError {
  const hint = optionalString(error, 'hint')
  const cniCode = optionalInteger(error, 'cniCode', { min: 1, max: 999 }) ?? CNI_CODE.internal
  const code = optionalString(error, 'code') ?? 'TSNET_DHCP'
  return new TsnetError(code, optionalString(error, 'message') ?? 'The DHCP daemon fails', { cniCode, ...(hint !== undefined && { hint }) })
}

function noDaemon(socket: string, cause: unknown): TsnetError {
  return new TsnetError('TSNET_NO_DHCP', `Cannot ask the DHCP daemon at ${JSON.stringify(socket)}`, {
    cniCode: CNI_CODE.notAvailable,
    hint: 'Start one: dhcp daemon, or systemctl start tsnet-dhcp.socket',
    cause,
  })
}
