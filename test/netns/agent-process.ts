/** The agent of a throw-away host, and what stands in for one. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { decodeHeader, decodeRequest, encodeFrame, HEADER_SIZE, KIND, type Request } from '../../src/agent/frame.ts'
import type { AgentStatus } from '../../src/agent/status.ts'
import { type Host, TSNET } from './host.ts'
import { eventually } from './machine.ts'

export const SOCKET = '/run/tsnet/tsnet.sock'

export interface AgentProcess {
  readonly process: ChildProcess
  /** As the host sees it. */
  readonly pid: number
  /** All that it has logged. */
  readonly log: () => string
  readonly ended: Promise<number>
  /** Asks it to stop. @returns Its exit status */
  stop(): Promise<number>
}

/** @param argv What runs it; default: `tsnet agent`. */
export async function startAgent(
  host: Host,
  { argv = [TSNET, 'agent', '--verbose'], env = {} }: { argv?: string[]; env?: Record<string, string> } = {},
) {
  const process = host.start(argv, env)
  let log = ''
  process.stderr?.on('data', (data) => {
    log += data
  })
  const ended = new Promise<number>((resolve) => process.once('exit', (status, signal) => resolve(status ?? (signal === 'SIGKILL' ? 137 : 143))))
  await eventually('the agent serves', () => log.includes('serving') || process.exitCode !== null)
  assert.equal(process.exitCode, null, log)
  const stop = () => {
    process.kill('SIGTERM')
    return ended
  }
  return { process, pid: process.pid as number, log: () => log, ended, stop } satisfies AgentProcess
}

export function agentStatus(host: Host): AgentStatus {
  return JSON.parse(host.exec([TSNET, 'agent', 'status', '--json'])) as AgentStatus
}

/** @returns How many requests the agent has answered. */
export function answered(host: Host): number {
  return Object.values(agentStatus(host).requests).reduce((sum, count) => sum + count)
}

export interface FakeAgent extends AsyncDisposable {
  /** How many connections it had. */
  readonly connections: () => number
}

/** Listens where the agent would, and does what the test says, a misdeed for each connection. */
export async function startFakeAgent(host: Host, act: (socket: Socket) => void): Promise<FakeAgent> {
  const path = host.machine.path(SOCKET)
  mkdirSync(host.machine.path('/run/tsnet'), { recursive: true, mode: 0o700 })
  if (existsSync(path)) rmSync(path)
  let connections = 0
  const open = new Set<Socket>()
  const server = createServer((socket) => {
    connections++
    open.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => open.delete(socket))
    act(socket)
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  return {
    connections: () => connections,
    [Symbol.asyncDispose]: async () => {
      for (const socket of open) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
      rmSync(path, { force: true })
    },
  }
}

/** Sends a hello and hands over the request when it has arrived. */
export function afterRequest(act: (socket: Socket, request: Request) => void): (socket: Socket) => void {
  return (socket) => {
    let bytes = Buffer.alloc(0)
    socket.write(encodeFrame(KIND.hello))
    socket.on('data', (data: Buffer) => {
      bytes = Buffer.concat([bytes, data])
      if (bytes.length < HEADER_SIZE) return
      const { kind, size } = decodeHeader(bytes.subarray(0, HEADER_SIZE))
      if (bytes.length < HEADER_SIZE + size) return
      assert.equal(kind, KIND.request)
      socket.removeAllListeners('data')
      act(socket, decodeRequest(bytes.subarray(HEADER_SIZE)))
    })
  }
}
