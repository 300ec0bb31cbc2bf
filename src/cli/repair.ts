/** `tsnet repair`: makes again what was attached and has lost a part of it, once or whenever it does. */
import type { CommandModule } from 'yargs'
import { quote } from '../cni/json.ts'
import { ErrorList } from '../error.ts'
import { repairAll } from '../plan/repair-all.ts'
import { watch } from '../watch/watch.ts'
import { type Arguments, flag, name, requireCapabilities, text, withJson, withNetwork } from './options.ts'
import { formatError } from './render-error.ts'
import { formatRepairs } from './render-repair.ts'
import { formatWatchEvent } from './render-watch.ts'
import type { Shell } from './shell.ts'
import { usageError } from './usage-error.ts'

/** Seconds between looks without an event. */
const DEFAULT_EVERY = 30
const LONGEST_EVERY = 86_400

export function repairCommand(shell: Shell): CommandModule {
  return {
    command: 'repair',
    describe: 'Make again what attachments have lost: rules, links, addresses, routes, switches',
    builder: (yargs) =>
      withJson(withNetwork(yargs, 'Repair this network only'), 'Print a list of what was found and made; with --watch a document a line')
        .option('dry-run', { type: 'boolean', describe: 'Only say what would be made' })
        .option('watch', { type: 'boolean', describe: 'Stay, and repair whenever something vanishes' })
        .option('every', {
          type: 'string',
          requiresArg: true,
          describe: `Seconds after which --watch looks though nothing was heard [default: ${DEFAULT_EVERY}]`,
        })
        .example([
          ['$0 repair', 'After "iptables -F", a reload of the firewall, or a bridge that was deleted'],
          ['$0 repair --dry-run', 'See what is missing everywhere, and change nothing'],
          ['$0 repair --network backend --json', 'One network, for programs'],
          ['$0 repair --watch', 'As a service: what vanishes is there again at once'],
        ]),
    handler: (args) => (flag(args, 'watch') ? repairAlways(args, shell) : repairOnce(args, shell)),
  }
}

function repairOnce(args: Arguments, shell: Shell): void {
  const wanted = name(args, 'network')
  const dryRun = flag(args, 'dry-run')
  if (text(args, 'every') !== undefined) throw usageError('Cannot use --every without --watch', 'Leave it away, or add --watch')
  requireCapabilities(shell, 'repair')
  const result = repairAll({ ...shell.openContext(), dryRun }, wanted)
  const errors = [...result.errors, ...result.repairs.flatMap((one) => one.errors)]
  shell.print(formatRepairs(shell.style, result.repairs, { dryRun, json: flag(args, 'json') }))
  if (errors.length > 0) throw new ErrorList('Cannot repair everything', errors)
}

async function repairAlways(args: Arguments, shell: Shell): Promise<void> {
  const network = name(args, 'network')
  const everyMs = 1000 * seconds(text(args, 'every'))
  const json = flag(args, 'json')
  if (flag(args, 'dry-run')) throw usageError('Cannot use --dry-run with --watch', 'Leave one of them away')
  requireCapabilities(shell, 'repair')
  const busAddress = shell.env['DBUS_SYSTEM_BUS_ADDRESS']
  await watch({
    context: shell.openContext(),
    ...(network !== undefined && { network }),
    everyMs,
    ...(busAddress && { busAddress }),
    userID: shell.userID,
    signal: shell.untilStopped(),
    onEvent: (event) => {
      shell.print(formatWatchEvent(event, json))
      if (json) return
      for (const error of [...event.errors, ...event.repairs.flatMap((one) => one.errors)]) shell.complain(formatError(error))
    },
  })
}

function seconds(value: string | undefined): number {
  if (value === undefined) return DEFAULT_EVERY
  const wanted = Number(value)
  if (/^\d+$/.test(value) && wanted >= 1 && wanted <= LONGEST_EVERY) return wanted
  throw usageError(`Cannot use --every ${quote(value)}: it is no number of seconds from 1 to ${LONGEST_EVERY}`, 'For example --every 60')
}
