/** The agent from its start to its end. */
import { CNI_CODE, TsnetError } from '../error.ts'
import { type LogOptions, openLog } from './log.ts'
import { openOwnSocket } from './own-socket.ts'
import { runServingThread } from './serving-thread.ts'
import type { ThreadSettings } from './thread.ts'

/** What a person chooses. */
export interface AgentSettings {
  readonly log: LogOptions
  /** Seconds without a request after which it ends; absent: never. */
  readonly idleExitSeconds?: number
}

export interface AgentOptions extends AgentSettings {
  /** The agent's own environment. */
  readonly env: Readonly<Record<string, string | undefined>>
  readonly pid: number
  readonly socket: string
  /** Bundle of the serving thread. */
  readonly thread: string
  readonly writeLog: (line: string) => void
}

/**
 * Serves until a signal, or until nobody has asked for long enough.
 * @throws TsnetError TSNET_AGENT when another agent has the socket, or the serving thread failed
 */
export async function runAgent(options: AgentOptions): Promise<void> {
  const { env, pid, socket, thread, writeLog, idleExitSeconds } = options
  const log = openLog(options.log, writeLog)
  const { listener, close } = openOwnSocket({ env, pid, socket, onTaken: alreadyRuns })
  try {
    const settings = (stop: number): ThreadSettings => ({
      listener,
      stop,
      log: options.log,
      ...(idleExitSeconds !== undefined && { idleMs: idleExitSeconds * 1000 }),
    })
    const reason = await runServingThread({ thread, settings, env, log, onReady: () => log.info('serving', { socket, pid }) })
    log.info('ended', { reason })
  } finally {
    close()
  }
}

function alreadyRuns(cause: unknown): TsnetError {
  return new TsnetError('TSNET_AGENT', 'Cannot serve: an agent runs already', {
    cniCode: CNI_CODE.tryAgain,
    hint: 'tsnet agent status shows it',
    cause,
  })
}
