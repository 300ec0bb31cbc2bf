/** `tsnet ipam check`: whether the address books of the networks are right, and makes them so. */
import type { CommandModule } from 'yargs'
import { quote } from '../cni/json.ts'
import { TsnetError } from '../error.ts'
import { type BookCheck, checkBook } from '../plan/book-check.ts'
import { Attempts } from '../plan/detach.ts'
import { listNetworks } from '../plan/state-folder.ts'
import { type Arguments, flag, name, requireCapabilities, withJson, withNetwork } from './options.ts'
import { formatBookChecks } from './render-ipam.ts'
import type { Shell } from './shell.ts'
import { usageError } from './usage-error.ts'

/** What comes after `tsnet ipam`. */
export const IPAM_ACTIONS = ['check'] as const

export function ipamCommand(shell: Shell): CommandModule {
  return {
    command: 'ipam <action>',
    describe: 'Compare the address books with what runs, and repair them',
    builder: (yargs) =>
      withJson(
        withNetwork(yargs.positional('action', { type: 'string', demandOption: true, describe: 'check' }), 'Look at this network only'),
        'Print a list of networks with what was found',
      )
        .option('repair', { type: 'boolean', describe: 'Make leases again from records and living namespaces' })
        .example([
          ['$0 ipam check', 'Exit status 1 and what is wrong, when something is'],
          ['$0 ipam check --repair', 'After a disk was full, or a subnet file was damaged'],
          ['$0 ipam check --network web --json', 'One network, for programs'],
        ]),
    handler: (args) => ipam(args, shell),
  }
}

function ipam(args: Arguments, shell: Shell): void {
  if (args['action'] !== 'check') throw usageError(`Cannot ${quote(args['action'])} address books: there is no such action`, 'Say tsnet ipam check')
  const wanted = name(args, 'network')
  const repair = flag(args, 'repair')
  requireCapabilities(shell, 'ipam check')
  const { state } = shell.openContext()
  const networks = listNetworks(state).filter((network) => (wanted ?? network) === network)
  if (wanted !== undefined && networks.length === 0)
    throw usageError(`Cannot check network ${quote(wanted)}: it has no address book`, 'tsnet ls shows what is attached')
  const errors = new Attempts()
  const checks = [...networks].sort().flatMap((network) => errors.try(() => checkBook(network, state, repair)) ?? [])
  shell.print(formatBookChecks(shell.style, checks, { repair, json: flag(args, 'json') }))
  errors.try(() => refuseFaulty(checks, repair))
  errors.finish('Cannot say that all address books are right')
}

/** @throws TsnetError with CNI code 104 when something is wrong (still) */
function refuseFaulty(checks: readonly BookCheck[], repair: boolean): void {
  const left = checks.flatMap(({ faults }) => faults).filter(({ repairable }) => !(repair && repairable))
  const [first] = left
  if (first === undefined) return
  const more = left.length === 1 ? '' : `; and ${left.length - 1} more`
  throw new TsnetError('TSNET_BOOK', `${first.problem}${more}`, {
    cniCode: 104,
    hint: first.hint ?? 'tsnet ipam check --repair makes the leases again from what runs',
  })
}
