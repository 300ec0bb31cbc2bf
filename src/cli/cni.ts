/** `tsnet cni`: a container runtime by hand. Runs any network of /etc/cni/net.d, whoever wrote its plugins. */
import { createHash } from 'node:crypto'
import type { Argv, CommandModule } from 'yargs'
import { isObject, type JsonObject, quote } from '../cni/json.ts'
import { checkIfname } from '../cni/request.ts'
import { listOwners, readRecord } from '../plan/record.ts'
import { statusOf } from '../plan/status.ts'
import { DEFAULT_FOLDER, type Definition, findInFolder, noNetwork } from '../runtime/definition-folder.ts'
import { type CachedAttachment, DEFAULT_CACHE_FOLDER } from '../runtime/result-cache.ts'
import { addNetwork, askStatus, checkNetwork, collectNetwork, deleteNetwork, type Runtime } from '../runtime/run-list.ts'
import type { RuntimeCall } from '../runtime/verb.ts'
import { netnsInode } from '../sys/netns.ts'
import { DEFAULT_IFNAME } from './attach.ts'
import { findNamespace, parseNamespace, resolveNamespace } from './namespace.ts'
import { type Arguments, flag, name, requireCapabilities, withJson } from './options.ts'
import { formatRan } from './render-cni.ts'
import type { Shell } from './shell.ts'
import { usageError } from './usage-error.ts'

/** What comes after `tsnet cni`. */
export const CNI_ACTIONS = ['add', 'check', 'del', 'gc', 'status'] as const

type Action = (typeof CNI_ACTIONS)[number]

/** Where runtimes look, and where Debian puts the reference plugins; our own folder comes last. */
const PLUGIN_FOLDERS = ['/opt/cni/bin', '/usr/lib/cni']

export function cniCommand(shell: Shell): CommandModule {
  return {
    command: 'cni <action> <network> [netns]',
    describe: "Run a network's CNI plugins as a container runtime does",
    builder: (yargs) => options(yargs),
    handler: (args) => cni(args, shell),
  }
}

function options(yargs: Argv): Argv {
  const positionals = yargs
    .positional('action', { type: 'string', demandOption: true, describe: 'add, check, del, gc or status' })
    .positional('network', { type: 'string', demandOption: true, describe: `Its name in ${DEFAULT_FOLDER}` })
    .positional('netns', { type: 'string', describe: 'The namespace for add, check and del: name, path, or process id' }) as unknown as Argv
  return withJson(positionals, 'Print what was done as an object; add always prints the CNI result')
    .option('ifname', { type: 'string', requiresArg: true, describe: `Name of the interface [default: CNI_IFNAME, else ${DEFAULT_IFNAME}]` })
    .option('id', { type: 'string', requiresArg: true, describe: 'Container id [default: made of the path, as cnitool does]' })
    .option('all', { type: 'boolean', describe: 'With gc: nothing of the network is in use any more' })
    .example([
      ['$0 cni add web /run/netns/c1', 'ADD by all plugins of the network "web", in their order'],
      [`CAP_ARGS='{"portMappings":[{"hostPort":8080,"containerPort":80}]}' $0 cni add web c1`, 'With a published port'],
      ['$0 cni check web c1', 'CHECK; exit status 1 and why, when something is missing'],
      ['$0 cni del web c1', 'DEL, in reverse order, also after the namespace is gone'],
      ['$0 cni gc web', 'Delete what belongs to namespaces that are gone'],
      ['CNI_PATH=/usr/lib/cni $0 cni status web', 'Whether its plugins, looked for there, are ready'],
    ])
    .epilogue(
      'NETCONFPATH, CNI_PATH (a list of folders), CAP_ARGS (JSON), CNI_ARGS (KEY=value;KEY=value), CNI_IFNAME and CNI_CACHE_DIR (default ' +
        `${DEFAULT_CACHE_FOLDER}) are read from the environment.`,
    )
}

function cni(args: Arguments, shell: Shell): void {
  const action = CNI_ACTIONS.find((known) => known === args['action'])
  if (action === undefined)
    throw usageError(`Cannot ${quote(args['action'])} a network: there is no such action`, `Say tsnet cni ${CNI_ACTIONS.join(', ')}`)
  const network = name({ network: args['network'] }, 'network') ?? ''
  const call = action === 'gc' || action === 'status' ? undefined : readCall(action, args, shell)
  if (flag(args, 'all') && action !== 'gc') throw usageError(`Cannot use --all with tsnet cni ${action}`, 'It is for tsnet cni gc')
  if (action !== 'status') requireCapabilities(shell, `cni ${action}`)
  const runtime = runtimeOf(shell)
  const owner = { network, ...(call && { containerID: call.containerID, ifname: call.ifname }) }
  const print = (done: JsonObject) => shell.print(formatRan(shell.style, { action, ...owner, ...done }, flag(args, 'json')))
  if (call === undefined)
    return print(action === 'gc' ? collect(network, flag(args, 'all'), { shell, runtime }) : { asked: askStatus(define(network, runtime), runtime) })
  if (action === 'add') return shell.print(`${JSON.stringify(addNetwork(define(network, runtime), call, runtime), undefined, 2)}\n`)
  if (action === 'check') return print({ asked: checkNetwork(define(network, runtime), call, runtime) })
  deleteNetwork(network, call, { definition: findInFolder(network, runtime.definitionFolder), runtime })
  print({})
}

function runtimeOf({ env, programs, openContext, complain }: Shell): Runtime {
  const given = env['CNI_PATH']?.split(':').filter((folder) => folder !== '') ?? []
  return {
    env,
    folders: given.length > 0 ? given : [...PLUGIN_FOLDERS, programs],
    ownFolder: programs,
    definitionFolder: env['NETCONFPATH'] || DEFAULT_FOLDER,
    cacheFolder: env['CNI_CACHE_DIR'] || DEFAULT_CACHE_FOLDER,
    openContext,
    complain,
  }
}

function define(network: string, { definitionFolder }: Runtime): Definition {
  const found = findInFolder(network, definitionFolder)
  if (found === undefined) throw noNetwork(network, definitionFolder)
  return found
}

function readCall(action: Action, args: Arguments, { env, cwd }: Shell): RuntimeCall {
  const text = args['netns']
  if (text === undefined)
    throw usageError(`Cannot ${action} a network: no namespace is named`, `For example tsnet cni ${action} ${String(args['network'])} web`)
  const wished = parseNamespace(String(text), cwd)
  const found = action === 'del' ? findNamespace(String(text), cwd) : resolveNamespace(String(text), cwd)
  const path = found?.path ?? wished[0]?.paths[0] ?? ''
  return {
    containerID: name(args, 'id') ?? containerIDOf(path),
    ifname: name(args, 'ifname') ?? ifnameOf(env),
    netns: found?.path ?? '',
    args: env['CNI_ARGS'] ? parseArgs(env['CNI_ARGS']) : undefined,
    capabilityArgs: env['CAP_ARGS'] ? parseCapabilities(env['CAP_ARGS']) : undefined,
  }
}

/** As cnitool makes it, so that each of the two can delete what the other has added. @see containernetworking/cni cnitool/cnitool.go */
function containerIDOf(path: string): string {
  return `cnitool-${createHash('sha512').update(path).digest('hex').slice(0, 20)}`
}

function ifnameOf(env: Shell['env']): string {
  const ifname = env['CNI_IFNAME'] || DEFAULT_IFNAME
  checkIfname(ifname)
  return ifname
}

function parseArgs(text: string): readonly (readonly [string, string])[] {
  return text.split(';').map((pair) => {
    const [key, value, rest] = pair.split('=', 3)
    if (!key || !value || rest !== undefined) throw usageError(`Cannot use CNI_ARGS: ${quote(pair)} is no pair`, 'The form is KEY=value;KEY=value')
    return [key, value]
  })
}

function parseCapabilities(text: string): JsonObject {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {}
  if (isObject(value)) return value
  throw usageError('Cannot use CAP_ARGS: it is no JSON object', `For example CAP_ARGS='{"portMappings":[{"hostPort":8080,"containerPort":80}]}'`)
}

/** What lives stays, by whomever it was attached; of what older runtimes remember nobody knows whether it lives. */
function collect(network: string, all: boolean, { shell, runtime }: { shell: Shell; runtime: Runtime }): JsonObject {
  const { state } = shell.openContext()
  const recorded = listOwners(state, network).filter((owner) => statusOf(readRecord(state, owner)) !== 'gone')
  const isValid = ({ netns }: CachedAttachment) => !all && (netns === undefined || netnsInode(netns) !== undefined)
  const others = all ? [] : recorded.map(({ containerID, ifname }) => ({ containerID, ifname }))
  const deleted = collectNetwork(define(network, runtime), { isValid, others }, runtime)
  return { asked: deleted !== undefined, deleted: (deleted ?? []).map(({ containerID, ifname }) => ({ containerID, ifname })) }
}
