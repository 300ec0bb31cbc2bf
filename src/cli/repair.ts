/** `tsnet repair`: makes again what was attached and has lost a part of it. */
import type { CommandModule } from 'yargs'
import { ErrorList } from '../error.ts'
import { listLiveNetworks } from '../plan/record.ts'
import { repairNetwork } from '../plan/repair.ts'
import { type Arguments, flag, name, requireCapabilities, withJson, withNetwork } from './options.ts'
import { formatRepairs } from './render-repair.ts'
import type { Shell } from './shell.ts'

export function repairCommand(shell: Shell): CommandModule {
  return {
    command: 'repair',
    describe: 'Make again what attachments have lost: rules, links, addresses, routes, switches',
    builder: (yargs) =>
      withJson(withNetwork(yargs, 'Repair this network only'), 'Print a list of what was found and made')
        .option('dry-run', { type: 'boolean', describe: 'Only say what would be made' })
        .example([
          ['$0 repair', 'After "iptables -F", a reload of the firewall, or a bridge that was deleted'],
          ['$0 repair --dry-run', 'See what is missing everywhere, and change nothing'],
          ['$0 repair --network backend --json', 'One network, for programs'],
        ]),
    handler: (args) => repair(args, shell),
  }
}

function repair(args: Arguments, shell: Shell): void {
  const wanted = name(args, 'network')
  const dryRun = flag(args, 'dry-run')
  requireCapabilities(shell, 'repair')
  const context = { ...shell.openContext(), dryRun }
  const networks = listLiveNetworks(context.state).filter((network) => (wanted ?? network) === network)
  const errors: unknown[] = []
  const repairs = networks.sort().flatMap((network) => {
    try {
      return repairNetwork(network, context)
    } catch (error) {
      errors.push(error)
      return []
    }
  })
  errors.push(...repairs.flatMap((one) => one.errors))
  shell.print(formatRepairs(shell.style, repairs, { dryRun, json: flag(args, 'json') }))
  if (errors.length > 0) throw new ErrorList('Cannot repair everything', errors)
}
