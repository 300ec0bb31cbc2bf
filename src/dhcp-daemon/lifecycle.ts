/** The daemon from its start to its end. */
import { rmSync, writeFileSync } from 'node:fs'
import { openLog } from '../agent/log.ts'
import { openOwnSocket } from '../agent/own-socket.ts'
import { handedDown } from '../agent/service-manager.ts'
import { runServingThread } from '../agent/serving-thread.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import type { StateFolder } from '../plan/state-folder.ts'
import { canConnect } from '../sys/unix-client.ts'
import type { DaemonOptions } from './command-line.ts'
import { Leases } from './leases.ts'
import { runServer } from './server.ts'

/** Beside the time that servers are given. */
const PATIENCE_MS = 5_000

export interface DaemonSurroundings {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly pid: number
  /** Bundle of the serving thread. */
  readonly thread: string
  readonly writeLog: (line: string) => void
}

/** What the serving thread is given. */
export interface DaemonThreadSettings {
  readonly options: DaemonOptions
  readonly listener: number
  readonly stop: number
}

export interface DaemonThreadOptions extends DaemonThreadSettings {
  readonly state: StateFolder
  readonly userID: number
  readonly writeLog: (line: string) => void
  readonly onReady: () => void
}

/** Serves until a signal. Leases are kept: a container goes on while the daemon is replaced. @throws TsnetError TSNET_AGENT when another daemon has the socket */
export async function runDaemon(options: DaemonOptions, { env, pid, thread, writeLog }: DaemonSurroundings): Promise<void> {
  const log = openDaemonLog(writeLog)
  const socket = options.hostPrefix + options.socketPath
  // One of containernetworking/plugins holds no lock.
  if (handedDown(env, pid) === undefined && canConnect(socket)) throw alreadyRuns(undefined)
  const { listener, close } = openOwnSocket({ env, pid, socket, onTaken: alreadyRuns })
  try {
    if (options.pidFile !== undefined) writeFileSync(options.pidFile, `${pid}`, { mode: 0o644 })
    const settings = (stop: number): DaemonThreadSettings => ({ options, listener, stop })
    const reason = await runServingThread({ thread, settings, env, log, onReady: () => log.info('serving', { socket, pid }) })
    log.info('ended', { reason })
  } finally {
    close()
    if (options.pidFile !== undefined) rmSync(options.pidFile, { force: true })
  }
}

/** @returns Why it ended. */
export function runDaemonThread({ options, listener, stop, state, userID, writeLog, onReady }: DaemonThreadOptions): string {
  const log = openDaemonLog(writeLog)
  const { timeoutMs, resendMaxMs, resendTimeoutMs, broadcast, hostPrefix } = options
  const leases = new Leases({ state, hostPrefix, timing: { timeoutMs, resendMaxMs, resendTimeoutMs, broadcast }, log })
  onReady()
  runServer({ listener, stop, userID, patienceMs: resendTimeoutMs + PATIENCE_MS, leases, log })
  return 'stopped'
}

function openDaemonLog(writeLog: (line: string) => void) {
  return openLog({ json: false, verbose: false }, writeLog, 'tsnet dhcp')
}

function alreadyRuns(cause: unknown): TsnetError {
  return new TsnetError('TSNET_AGENT', 'Cannot serve: a DHCP daemon runs already', {
    cniCode: CNI_CODE.tryAgain,
    hint: 'Give it another -socketpath',
    cause,
  })
}
