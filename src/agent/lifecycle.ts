/** The agent from its start to its end: the socket, the serving thread, signals, and what a service manager is told. */
import { chmodSync, closeSync, mkdirSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { CNI_CODE, TsnetError } from '../error.ts'
import { type FileLock, lockFile } from '../sys/lock.ts'
import { openPipe } from '../sys/pipe.ts'
import { adoptListener, listenUnix } from '../sys/unix-socket.ts'
import { type Log, type LogOptions, openLog } from './log.ts'
import { handedDown, notify } from './service-manager.ts'
import type { ThreadSettings } from './thread.ts'

/** Beyond the queue of the server itself. The kernel refuses more at once. */
const BACKLOG = 128

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
  const log = openLog(options.log, options.writeLog)
  const { listener, close } = openSocket(options)
  try {
    const { read: stop, write: stopper } = openPipe()
    const settings: ThreadSettings = {
      listener,
      stop,
      log: options.log,
      ...(options.idleExitSeconds !== undefined && { idleMs: options.idleExitSeconds * 1000 }),
    }
    const reason = await serve(settings, options, { log, stopper })
    log.info('ended', { reason })
  } finally {
    close()
  }
}

interface Surroundings {
  readonly log: Log
  /** Closed, it stops the thread. */
  readonly stopper: number
}

/** @returns Why the thread ended. */
function serve(settings: ThreadSettings, { env, thread, socket, pid }: AgentOptions, { log, stopper }: Surroundings): Promise<string> {
  // The thread closes descriptors that libc opened, which node would take for an error; it needs little room for what is young.
  const worker = new Worker(thread, { workerData: settings, trackUnmanagedFds: false, resourceLimits: { maxYoungGenerationSizeMb: 2 } })
  let signalled = false
  const onSignal = (signal: NodeJS.Signals) => {
    if (signalled) return
    signalled = true
    notify(env, 'STOPPING=1')
    log.info('stopping', { signal })
    closeSync(stopper)
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, onSignal)
  return new Promise((resolve, reject) => {
    let reason: string | undefined
    worker.on('message', (message: string) => {
      if (message !== 'ready') {
        reason = message
        return
      }
      notify(env, 'READY=1')
      log.info('serving', { socket, pid })
    })
    worker.on('error', (cause) => reject(new TsnetError('TSNET_AGENT', 'Cannot serve any longer: the serving thread failed', { cause })))
    worker.on('exit', () => resolve(reason ?? 'the serving thread ended'))
  })
}

interface OwnSocket {
  readonly listener: number
  readonly close: () => void
}

function openSocket({ env, pid, socket }: AgentOptions): OwnSocket {
  const inherited = handedDown(env, pid)
  if (inherited !== undefined) {
    const listener = adoptListener(inherited)
    return { listener, close: () => closeSync(listener) }
  }
  const folder = dirname(socket)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const lock = lockSocket(`${socket}.lock`)
  try {
    // Whoever left it is gone: it would hold the lock.
    rmSync(socket, { force: true })
    const listener = listenUnix(socket, BACKLOG)
    chmodSync(socket, 0o600)
    const close = () => {
      rmSync(socket, { force: true })
      closeSync(listener)
      lock[Symbol.dispose]()
    }
    return { listener, close }
  } catch (error) {
    lock[Symbol.dispose]()
    throw error
  }
}

function lockSocket(path: string): FileLock {
  try {
    return lockFile(path, { timeoutMs: 0 })
  } catch (cause) {
    if (!(cause instanceof TsnetError) || cause.code !== 'TSNET_LOCK_TIMEOUT') throw cause
    throw new TsnetError('TSNET_AGENT', 'Cannot serve: an agent runs already', {
      cniCode: CNI_CODE.tryAgain,
      hint: 'tsnet agent status shows it',
      cause,
    })
  }
}
