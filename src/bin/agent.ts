/** The agent: the process that `tsnet agent` becomes, and the thread in it that serves. */
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { socketPath } from '../agent/client.ts'
import { type AgentSettings, runAgent } from '../agent/lifecycle.ts'
import { runThread, type ThreadSettings } from '../agent/thread.ts'
import { formatError } from '../cli/render-error.ts'
import { openContext } from './context.ts'
import { writeLog } from './standard-streams.ts'

declare const TSNET_VERSION: string
declare const TSNET_BUILD: string

const { env } = process

if (isMainThread) serve()
else parentPort?.postMessage(serveInThread())

function serve(): void {
  process.chdir('/')
  process.umask(0o077)
  const settings = JSON.parse(process.argv[2] ?? '') as AgentSettings
  runAgent({ ...settings, env, socket: socketPath(env), thread: __filename, pid: process.pid, writeLog }).then(
    () => process.exit(0),
    (error: unknown) => {
      writeLog(formatError(error, env['TSNET_DEBUG'] === '1'))
      process.exit(1)
    },
  )
}

function serveInThread(): string {
  return runThread({
    settings: workerData as ThreadSettings,
    context: openContext(),
    version: TSNET_VERSION,
    build: TSNET_BUILD,
    pid: process.pid,
    userID: process.geteuid?.() ?? 0,
    residentBytes: () => process.memoryUsage.rss(),
    tidy: () => globalThis.gc?.(),
    writeLog,
    runErrand: (errand) => parentPort?.postMessage(errand),
    onReady: () => parentPort?.postMessage('ready'),
  })
}
