/** `tsnet install` and `tsnet uninstall`: our programs where runtimes look for plugins. */
import { lstatSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import type { Argv, CommandModule } from 'yargs'
import { quote } from '../cni/json.ts'
import { TsnetError } from '../error.ts'
import { PLUGIN_TYPES } from '../plugins/types.ts'
import { DEFAULT_FOLDER, findInFolder } from '../runtime/definition-folder.ts'
import { type Change, install, uninstall } from '../runtime/plugin-folder.ts'
import { listAttachments } from './attachments.ts'
import { type Arguments, flag, name, text, withJson } from './options.ts'
import type { Shell } from './shell.ts'
import { paint, type Style } from './style.ts'
import { usageError } from './usage-error.ts'

const DEFAULT_BIN_FOLDER = '/opt/cni/bin'
/** containerd's CRI wants the second for every pod, and mostly has one already. */
const DEFAULT_TYPES = ['tsnet', 'loopback']

export function installCommand(shell: Shell): CommandModule {
  return {
    command: 'install',
    describe: 'Put the plugins where container runtimes look for them',
    builder: (yargs) =>
      withFolder(yargs)
        .option('as', {
          type: 'string',
          requiresArg: true,
          describe: 'Plugin types, parted by commas, or all [default: tsnet, and loopback where there is none]',
        })
        .option('network', { type: 'string', requiresArg: true, describe: 'Also define a network of this name' })
        .option('conf-dir', {
          type: 'string',
          requiresArg: true,
          describe: `Where its definition goes [default: NETCONFPATH, else ${DEFAULT_FOLDER}]`,
        })
        .option('force', { type: 'boolean', describe: 'Replace other programs of these names; uninstall puts them back' })
        .example([
          ['$0 install --network web', 'All that a runtime needs: the plugin, and a network'],
          ['$0 install --as all --force', 'Take the place of the reference plugins'],
          ['$0 install --bin-dir /usr/lib/cni', 'Where Debian has its plugins'],
        ]),
    handler: (args) => shell.print(formatChanges(shell.style, installAll(args, shell), flag(args, 'json'))),
  }
}

export function uninstallCommand(shell: Shell): CommandModule {
  return {
    command: 'uninstall',
    describe: 'Take away what install has put there, and put back what was there before',
    builder: (yargs) =>
      withFolder(yargs)
        .option('force', { type: 'boolean', describe: 'Also while containers are attached, whose runtimes will miss the plugin' })
        .example([
          ['$0 uninstall', 'Also removes the network definition, unless it was changed'],
          ['$0 uninstall --bin-dir /usr/lib/cni', 'From another folder'],
        ]),
    handler: (args) => {
      const folder = binFolder(args, shell)
      const standing = flag(args, 'force') ? [] : listAttachments(shell.openContext().state)
      if (standing.length > 0) {
        throw new TsnetError(
          'TSNET_IN_USE',
          `Cannot uninstall: there are still attachments (${standing.length}), and their runtimes need the plugin to remove them`,
          {
            hint: 'Remove the containers first (tsnet ls shows them), or use --force',
          },
        )
      }
      shell.print(formatChanges(shell.style, uninstall(folder), flag(args, 'json')))
    },
  }
}

function withFolder(yargs: Argv): Argv {
  return withJson(
    yargs.option('bin-dir', {
      type: 'string',
      requiresArg: true,
      describe: `The runtimes' folder of plugins [default: ${DEFAULT_BIN_FOLDER}]`,
    }) as unknown as Argv,
    'Print a list of {path, status}',
  )
}

function binFolder(args: Arguments, { cwd }: Shell): string {
  return resolve(cwd, text(args, 'bin-dir') ?? DEFAULT_BIN_FOLDER)
}

function installAll(args: Arguments, shell: Shell): readonly Change[] {
  const { programs, node } = shell
  const named = typesNamed(text(args, 'as'))
  const network = name(args, 'network')
  const confFolder = resolve(shell.cwd, text(args, 'conf-dir') ?? (shell.env['NETCONFPATH'] || DEFAULT_FOLDER))
  if (network === undefined && text(args, 'conf-dir') !== undefined)
    throw usageError('Cannot use --conf-dir without --network', 'It says where the definition of the network goes')
  if (binFolder(args, shell) === programs)
    throw usageError(`Cannot install into ${quote(programs)}: that is where the programs come from`, 'It serves as CNI_PATH as it is')
  warnOfWriters(dirname(programs), shell)
  const defined = network === undefined ? undefined : findInFolder(network, confFolder)?.path
  const changes = install({
    binFolder: binFolder(args, shell),
    programs,
    node,
    types: named ?? DEFAULT_TYPES,
    optional: named === undefined ? ['loopback'] : [],
    force: flag(args, 'force'),
    definitions: network === undefined || defined !== undefined ? {} : { [join(confFolder, `10-${network}.conflist`)]: definitionOf(network) },
  })
  return defined === undefined ? changes : [...changes, { path: defined, status: 'kept' }]
}

function typesNamed(list: string | undefined): readonly string[] | undefined {
  if (list === undefined) return undefined
  if (list === 'all') return PLUGIN_TYPES
  const types = list.split(',').map((type) => type.trim())
  const unknown = types.find((type) => !PLUGIN_TYPES.includes(type))
  if (unknown !== undefined) throw usageError(`Cannot install ${quote(unknown)}: tsnet is no such plugin`, `Known are ${PLUGIN_TYPES.join(', ')}`)
  return [...new Set(types)]
}

/** Runtimes that know no 1.1.0 pass over cniVersions; the others call GC and STATUS. */
function definitionOf(network: string): string {
  const plugin = { type: 'tsnet', capabilities: { portMappings: true, ips: true, mac: true } }
  return `${JSON.stringify({ cniVersion: '1.0.0', cniVersions: ['1.0.0', '1.1.0'], name: network, plugins: [plugin] }, undefined, 2)}\n`
}

/** Runtimes run it as root: whoever can change it can become root. */
function warnOfWriters(dist: string, { complain, userID }: Shell): void {
  if (userID !== 0) return
  const folders = [dist]
  for (let folder = dist; folder !== dirname(folder); folder = dirname(folder)) folders.push(dirname(folder))
  const open = folders.find((folder) => {
    const { uid, mode } = lstatSync(folder)
    // Of a folder with the sticky bit nobody can take away what is another's.
    return uid !== 0 || ((mode & 0o022) !== 0 && (mode & 0o1000) === 0)
  })
  if (open !== undefined)
    complain(`tsnet: Others than root can change ${quote(open)}, where what runtimes run as root lies: install the package as root\n`)
}

function formatChanges(style: Style, changes: readonly Change[], json: boolean): string {
  if (json) return `${JSON.stringify(changes, undefined, 2)}\n`
  return changes
    .map(({ path, status }) => `${path}${style.terminal ? '  ' : '\t'}${paint(style, status === 'kept' ? 'yellow' : 'green', status)}\n`)
    .join('')
}
