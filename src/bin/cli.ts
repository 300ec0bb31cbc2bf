/** The command for people. */
import { join } from 'node:path'
import { handedDown } from '../agent/service-manager.ts'
import { runCommandLine } from '../cli/command-line.ts'
import { formatError } from '../cli/render-error.ts'
import type { Shell } from '../cli/shell.ts'
import { TsnetError } from '../error.ts'
import { missingCapabilities } from '../sys/capability.ts'
import { become } from '../sys/exec.ts'
import { openContext } from './context.ts'
import { readInput } from './standard-streams.ts'

declare const TSNET_VERSION: string

const DEFAULT_COLUMNS = 80
/** What keeps the agent fast and still small (docs/decisions/0019): one thread for V8's work, room for what is young, and code that is compiled at once. */
const AGENT_FLAGS = ['--v8-pool-size=1', '--max-semi-space-size=2', '--always-sparkplug', '--expose-gc']

const { env, stdout, stderr } = process

const shell: Shell = {
  env,
  cwd: process.cwd(),
  programs: join(__dirname, 'bin'),
  node: process.execPath,
  style: {
    terminal: stdout.isTTY === true,
    columns: stdout.columns || DEFAULT_COLUMNS,
    colours: stdout.isTTY === true && !env['NO_COLOR'] && env['TERM'] !== 'dumb',
  },
  userID: process.geteuid?.() ?? 0,
  readInput,
  print: (text) => void stdout.write(text),
  complain: (text) => void stderr.write(text),
  untilStopped,
  missingCapabilities,
  openContext,
  // Not in this process, which has loaded all that a command line needs.
  becomeAgent: (settings) => {
    const socket = handedDown(env, process.pid)
    // Each thread of node would have a heap of its own in libc.
    env['MALLOC_ARENA_MAX'] ??= '1'
    return become(process.execPath, [...AGENT_FLAGS, join(__dirname, 'agent.cjs'), JSON.stringify(settings)], socket === undefined ? [] : [socket])
  },
}

// A reader that has seen enough, such as head, is no failure; a full disk is.
stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') fail(new TsnetError('TSNET_OUTPUT', 'Cannot write to standard output', { cause: error }))
})
stderr.on('error', () => {})

runCommandLine(process.argv.slice(2), shell, TSNET_VERSION).catch(fail)

function untilStopped(): AbortSignal {
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())
  return stop.signal
}

function fail(error: unknown): void {
  stderr.write(formatError(error, env['TSNET_DEBUG'] === '1'))
  process.exitCode = 1
}
