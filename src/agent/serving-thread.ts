/** The thread of a resident process that serves, signals that end it, and what a service manager is told. */
import { closeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { TsnetError } from '../error.ts'
import { sendAside } from '../sys/libc-agent.ts'
import { openPipe } from '../sys/pipe.ts'
import type { Errand } from './link-deletion.ts'
import type { Log } from './log.ts'
import { notify } from './service-manager.ts'

/** Three semi-spaces of V8, of 2 MiB each. With 1 MiB each, every fourth ADD collects garbage. */
const YOUNG_MIB = 6

export interface ServingThreadOptions {
  /** Bundle that the thread runs. It posts `ready`, errands, and as its last word why it ended. */
  readonly thread: string
  /** What the thread is given. @param stop A descriptor that is closed at its other end when the thread has to stop. */
  readonly settings: (stop: number) => object
  readonly env: Readonly<Record<string, string | undefined>>
  readonly log: Log
  readonly onReady: () => void
}

/** @returns Why the thread ended. @throws TsnetError TSNET_AGENT when it failed */
export function runServingThread({ thread, settings, env, log, onReady }: ServingThreadOptions): Promise<string> {
  const { read: stop, write: stopper } = openPipe()
  // The thread closes descriptors that libc opened, which node would take for an error.
  const worker = new Worker(thread, { workerData: settings(stop), trackUnmanagedFds: false, resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MIB } })
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
    worker.on('message', (message: string | Errand) => {
      if (typeof message === 'object') return run(message)
      if (message !== 'ready') {
        reason = message
        return
      }
      notify(env, 'READY=1')
      onReady()
    })
    worker.on('error', (cause) => reject(new TsnetError('TSNET_AGENT', 'Cannot serve any longer: the serving thread failed', { cause })))
    worker.on('exit', () => resolve(reason ?? 'the serving thread ended'))
  })
}

/** What fails, the thread finds out by itself. */
function run({ fd, message }: Errand): void {
  const close = () => closeSync(fd)
  sendAside(fd, message).then(close, close)
}
