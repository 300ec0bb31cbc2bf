/** Asks an agent about itself. */
import { connect } from 'node:net'
import { join } from 'node:path'
import { TsnetError } from '../error.ts'
import { decodeHeader, encodeFrame, HEADER_SIZE, KIND } from './frame.ts'
import type { AgentStatus } from './status.ts'

const DEFAULT_FOLDER = '/run/tsnet'
const TIMEOUT_MS = 5_000
const LARGEST_ANSWER = 65_536

/** @returns Where agent and launcher meet: in /run/tsnet, or where TSNET_RUN_DIR says. */
export function socketPath(env: Readonly<Record<string, string | undefined>>): string {
  return join(env['TSNET_RUN_DIR'] || DEFAULT_FOLDER, 'tsnet.sock')
}

/** @param socket Path. @throws TsnetError TSNET_NO_AGENT when none answers; TSNET_PROTOCOL when something else does */
export async function askStatus(socket: string): Promise<AgentStatus> {
  const connection = connect(socket)
  connection.setTimeout(TIMEOUT_MS, () => connection.destroy(new Error(`it has not answered for ${TIMEOUT_MS} ms`)))
  connection.write(encodeFrame(KIND.statusRequest))
  let bytes = Buffer.alloc(0)
  try {
    for await (const chunk of connection as AsyncIterable<Buffer>) {
      bytes = Buffer.concat([bytes, chunk])
      const payload = findStatus(bytes)
      if (payload !== undefined) return JSON.parse(payload.toString('utf8')) as AgentStatus
    }
  } catch (cause) {
    if (cause instanceof TsnetError) throw cause
    throw noAgent(socket, cause)
  } finally {
    connection.destroy()
  }
  throw noAgent(socket, new Error('it closed the connection'))
}

/** @returns The payload of the status frame, when it is complete. */
function findStatus(bytes: Buffer): Buffer | undefined {
  for (let at = 0; bytes.length - at >= HEADER_SIZE; ) {
    const { kind, size } = decodeHeader(bytes.subarray(at, at + HEADER_SIZE))
    if (size > LARGEST_ANSWER) throw new TsnetError('TSNET_PROTOCOL', `Cannot understand the agent: it announces ${size} bytes`)
    const end = at + HEADER_SIZE + size
    if (bytes.length < end) return undefined
    if (kind === KIND.status) return bytes.subarray(at + HEADER_SIZE, end)
    at = end
  }
  return undefined
}

function noAgent(socket: string, cause: unknown): TsnetError {
  return new TsnetError('TSNET_NO_AGENT', `Cannot ask the agent at "${socket}"`, { hint: 'Start one: tsnet agent', cause })
}
