/** The DHCP daemon: `dhcp daemon`, and the thread in it that serves. */
import { writeSync } from 'node:fs'
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { formatError } from '../cli/render-error.ts'
import { parseDaemonOptions, USAGE } from '../dhcp-daemon/command-line.ts'
import { type DaemonThreadSettings, runDaemon, runDaemonThread } from '../dhcp-daemon/lifecycle.ts'
import { openContext } from './context.ts'
import { writeLog } from './standard-streams.ts'

const { env } = process

if (!isMainThread) parentPort?.postMessage(serveInThread())
else
  serve().then(
    () => process.exit(0),
    (error: unknown) => {
      writeLog(formatError(error, env['TSNET_DEBUG'] === '1'))
      process.exit(1)
    },
  )

async function serve(): Promise<void> {
  const options = parseDaemonOptions(process.argv.slice(2))
  if (options === undefined) return void writeSync(1, USAGE)
  process.chdir('/')
  process.umask(0o077)
  await runDaemon(options, { env, thread: __filename, pid: process.pid, writeLog })
}

function serveInThread(): string {
  return runDaemonThread({
    ...(workerData as DaemonThreadSettings),
    state: openContext().state,
    userID: process.geteuid?.() ?? 0,
    writeLog,
    onReady: () => parentPort?.postMessage('ready'),
  })
}
