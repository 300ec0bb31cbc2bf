/** The command line: what a person types, to an exit status. */
import yargs, { type Argv } from 'yargs'
import { TsnetError } from '../error.ts'
import { agentCommand } from './agent.ts'
import { attachCommand } from './attach.ts'
import { checkCommand } from './check.ts'
import { cniCommand } from './cni.ts'
import { COMPLETE, complete, completionCommand } from './completion.ts'
import { detachCommand } from './detach.ts'
import { gcCommand } from './gc.ts'
import { inspectCommand } from './inspect.ts'
import { installCommand, uninstallCommand } from './install.ts'
import { ipamCommand } from './ipam.ts'
import { lsCommand } from './ls.ts'
import { ociHookCommand } from './oci-hook.ts'
import { portCommand } from './port.ts'
import { repairCommand } from './repair.ts'
import type { Shell } from './shell.ts'
import { usageError } from './usage-error.ts'

const WIDEST_HELP = 110
/** A shorter word is as like to every short command as to the one that is meant: `rm` to `ls`. */
const SHORTEST_TO_RESEMBLE = 3
const TAKES_PORTS = ['attach', 'port']

const COMMANDS = [
  attachCommand,
  detachCommand,
  lsCommand,
  inspectCommand,
  checkCommand,
  portCommand,
  repairCommand,
  gcCommand,
  ipamCommand,
  agentCommand,
  cniCommand,
  installCommand,
  uninstallCommand,
  ociHookCommand,
  completionCommand,
]

const EPILOGUE =
  'A runtime executes this program as a CNI plugin instead, with CNI_COMMAND set. State lies in /run/tsnet or where TSNET_STATE_DIR says, ' +
  'networks are defined in /etc/cni/net.d or where NETCONFPATH says, NO_COLOR=1 leaves colours away, TSNET_DEBUG=1 shows where an error came from.'

/**
 * Runs one command.
 * @param args The command line without node and script.
 * @param version What `--version` prints.
 * @throws TsnetError when it failed, also TSNET_USAGE for what it could not read
 */
export async function runCommandLine(args: readonly string[], shell: Shell, version: string): Promise<void> {
  if (args[0] === COMPLETE)
    return shell.print(
      complete(args.slice(1), shell)
        .map((word) => `${word}\n`)
        .join(''),
    )
  const parser = build(shell, version)
  const words = args.length === 0 ? ['--help'] : separate(args)
  let failure: unknown
  const handled = (error: unknown) => {
    failure = error
  }
  try {
    await parser.parseAsync(words, {}, (error, _argv, output) => {
      handled(error)
      if (output !== '') shell.print(`${output}\n`)
    })
  } catch (error) {
    handled(error)
  }
  if (failure !== undefined && failure !== null) throw failure instanceof TsnetError || !isUsage(failure) ? failure : explain(failure, args)
}

function build(shell: Shell, version: string): Argv {
  const parser = yargs()
    .scriptName('tsnet')
    .parserConfiguration({
      'boolean-negation': false,
      'camel-case-expansion': false,
      'dot-notation': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
    })
    .detectLocale(false)
    .exitProcess(false)
    .usage('Networks for containers: an interface, an address, a way out and published ports for any network namespace.\n\nUsage: $0 <command>')
    .epilogue(EPILOGUE)
    .example([
      ['ip netns add web', 'Make a network namespace'],
      ['$0 attach web -p 8080:80', 'Connect it, its port 80 as port 8080 of this host'],
      ['$0 ls', 'See what is attached'],
      ['$0 detach web', 'Take everything away again'],
    ])
    .version(version)
    .alias('version', 'v')
    .help()
    .alias('help', 'h')
    .group(['help', 'version'], 'Everywhere:')
    .wrap(Math.min(WIDEST_HELP, shell.style.columns))
    .strict()
    .demandCommand(1, 'no command')
    .recommendCommands()
  // The types know a message handler only; false makes yargs throw.
  ;(parser.fail as (handler: false) => Argv)(false)
  for (const command of COMMANDS) parser.command(command(shell))
  return parser
}

/** yargs reads `-p8080:80` as eight options of one letter; everybody else as Docker does. */
function separate(args: readonly string[]): readonly string[] {
  const end = args.includes('--') ? args.indexOf('--') : args.length
  return args.flatMap((word, i) => (i < end && /^-p[^=]/.test(word) ? ['-p', word.slice(2)] : [word]))
}

/** yargs throws YError, and plain errors with its texts; a handler's own failures are of other kinds or have a code. */
function isUsage(error: unknown): error is Error {
  return error instanceof Error && (error.name === 'YError' || (error.constructor === Error && !('code' in error)))
}

function explain(error: Error, args: readonly string[]): TsnetError {
  const [command = ''] = args
  const known = [
    'attach',
    'detach',
    'ls',
    'list',
    'inspect',
    'check',
    'port',
    'repair',
    'gc',
    'ipam',
    'agent',
    'cni',
    'install',
    'uninstall',
    'oci-hook',
    'completion',
  ].includes(command)
  const help = known ? `See tsnet ${command} --help` : 'See tsnet --help'
  const message = error.message.replace(/\.$/, '')
  if (known && /non-option arguments/.test(message)) {
    if (command === 'ipam')
      return usageError('Cannot tell what to do: tsnet ipam takes an action', `For example tsnet ipam check; ${help.toLowerCase()}`)
    if (command === 'port')
      return usageError('Cannot tell what to do: tsnet port takes an action and a container', `For example tsnet port ls web; ${help.toLowerCase()}`)
    if (command === 'cni')
      return usageError('Cannot tell what to do: tsnet cni takes an action and a network', `For example tsnet cni add web c1; ${help.toLowerCase()}`)
    return usageError(
      `Cannot ${command}: ${command === 'attach' ? 'no namespace is named' : 'no namespace or container id is named'}`,
      `For example tsnet ${command} web; ${help.toLowerCase()}`,
    )
  }
  if (/^Did you mean/.test(message)) return usageError(`Unknown command: ${command}`, command.length < SHORTEST_TO_RESEMBLE ? help : message)
  if (/^no command$/.test(message)) return usageError('No command is named', help)
  if (/^Unknown argument/.test(message) && !known) return usageError(`Unknown command: ${command}`, help)
  const port = /^Unknown argument: ((?:\S+:)?\d[\d-]*(?:\/\w+)?)$/.exec(message)?.[1]
  if (port !== undefined && TAKES_PORTS.includes(command)) return usageError(message, `A port comes behind -p: -p ${port}; ${help.toLowerCase()}`)
  const follows = /^Not enough arguments following: (.+)$/.exec(message)?.[1]
  if (follows !== undefined) return usageError(`Cannot use ${follows.length === 1 ? '-' : '--'}${follows} without a value`, help)
  return usageError(message, help)
}
