/** `tsnet agent`: the resident process that makes calls faster, and what it says of itself. */
import type { CommandModule } from 'yargs'
import { askStatus, socketPath } from '../agent/client.ts'
import { type Arguments, flag, requireCapabilities, text, withJson } from './options.ts'
import { formatAgentStatus } from './render-agent.ts'
import type { Shell } from './shell.ts'
import { usageError } from './usage-error.ts'

export const AGENT_ACTIONS = ['status'] as const

const LONGEST_IDLE_SECONDS = 7 * 24 * 3600

export function agentCommand(shell: Shell): CommandModule {
  return {
    command: 'agent [action]',
    describe: 'Serve the calls of runtimes from a resident process, until a signal comes',
    builder: (yargs) =>
      withJson(yargs.positional('action', { type: 'string', describe: 'status: ask the agent that runs' }), 'Log lines, or the status, as JSON')
        .option('idle-exit', { type: 'string', requiresArg: true, describe: 'End after so many seconds without a call' })
        .option('verbose', { type: 'boolean', describe: 'Log every call' })
        .example([
          ['$0 agent', 'Serve at /run/tsnet/tsnet.sock; the programs in dist/bin/ find it there'],
          ['$0 agent status', 'How many calls it has served, and how much memory it takes'],
        ]),
    handler: (args) => agent(args, shell),
  }
}

async function agent(args: Arguments, shell: Shell): Promise<void> {
  const action = args['action']
  if (action === 'status') return shell.print(formatAgentStatus(shell.style, await askStatus(socketPath(shell.env)), flag(args, 'json')))
  if (action !== undefined)
    throw usageError(`Cannot do ${JSON.stringify(action)}: tsnet agent knows ${AGENT_ACTIONS.join(', ')} only`, 'tsnet agent alone serves')
  const idleExitSeconds = idleSeconds(text(args, 'idle-exit'))
  requireCapabilities(shell, 'agent')
  // A bad state folder is reported here rather than by the serving thread.
  shell.openContext()
  shell.becomeAgent({ log: { json: flag(args, 'json'), verbose: flag(args, 'verbose') }, ...(idleExitSeconds !== undefined && { idleExitSeconds }) })
}

function idleSeconds(value: string | undefined): number | undefined {
  if (value === undefined) return undefined
  const seconds = /^\d{1,9}$/.test(value) ? Number(value) : 0
  if (seconds >= 1 && seconds <= LONGEST_IDLE_SECONDS) return seconds
  throw usageError(
    `Cannot use --idle-exit ${JSON.stringify(value)}: it is a whole number of seconds from 1 to ${LONGEST_IDLE_SECONDS}`,
    'Write --idle-exit 300',
  )
}
