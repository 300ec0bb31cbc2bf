/** Finds what a network's name stands for: a configuration list in /etc/cni/net.d, or for "tsnet" what is built in. */
import { readdirSync, readFileSync } from 'node:fs'
import { basename, extname, join } from 'node:path'
import { type NetworkList, parseConflist } from '../cni/conflist.ts'
import { field, isObject, type JsonObject, parseJson, quote } from '../cni/json.ts'
import { describe, isErrno, TsnetError } from '../error.ts'

export const DEFAULT_NETWORK = 'tsnet'
export const DEFAULT_FOLDER = '/etc/cni/net.d'

/** Capabilities that the plugin knows; what a person asks for on the command line need not be declared. */
const CAPABILITIES = { portMappings: true, ips: true, mac: true, ipRanges: true }

export interface NetworkDefinition {
  readonly list: NetworkList
  /** The plugin of type `tsnet`, able to receive what the command line asks for. */
  readonly plugin: JsonObject
  /** Absent for the network that is built in. */
  readonly path?: string
}

interface DefinitionFile {
  readonly path: string
  /** Absent when the file cannot be read as JSON. */
  readonly name: string | undefined
  readonly text: string
  readonly problem?: unknown
}

/**
 * Looks in the order of libcni: first the lists, then single plugins. A broken file of another network is in nobody's way.
 * @param folder Where definitions lie.
 * @throws TsnetError TSNET_NO_NETWORK when nothing has that name; TSNET_DEFINITION when its definition is broken, or has other plugins
 * @see containernetworking/cni libcni/conf.go, LoadNetworkConf
 */
export function findDefinition(name: string, folder: string): NetworkDefinition {
  const files = readDefinitions(folder)
  const file = files.find((candidate) => candidate.name === name)
  if (file !== undefined) return definitionOf(file, folder)
  const broken = files.filter(({ problem }) => problem !== undefined)
  const suspect = broken.find(({ text, path }) => text.includes(JSON.stringify(name)) || isNamedAfter(path, name))
  if (suspect !== undefined && suspect.problem !== undefined) throw brokenDefinition(suspect.path, suspect.problem)
  if (name === DEFAULT_NETWORK) return builtin()
  throw noNetwork(name, folder, { names: files.flatMap((other) => other.name ?? []), broken: broken.map(({ path }) => path) })
}

/** @returns The names that `--network` knows: the default, and those of the folder. */
export function networkNames(folder: string): readonly string[] {
  return [...new Set([DEFAULT_NETWORK, ...readDefinitions(folder).flatMap(({ name }) => name ?? [])])]
}

function readDefinitions(folder: string): readonly DefinitionFile[] {
  const names = [...listFolder(folder)].sort()
  const ordered = [...names.filter((name) => extname(name) === '.conflist'), ...names.filter((name) => ['.conf', '.json'].includes(extname(name)))]
  return ordered.map((name) => readDefinition(join(folder, name)))
}

function readDefinition(path: string): DefinitionFile {
  let text = ''
  try {
    text = readFileSync(path, 'utf8')
    const json = parseJson(text, `the network definition ${quote(path)}`)
    const name = isObject(json) ? field(json, 'name') : undefined
    return { path, text, name: typeof name === 'string' && name !== '' ? name : undefined }
  } catch (problem) {
    return { path, text, name: undefined, problem }
  }
}

/** @returns Whether a file is called `name.conflist` or `10-name.conflist`. */
function isNamedAfter(path: string, name: string): boolean {
  const stem = basename(path, extname(path))
  return stem === name || stem.endsWith(`-${name}`)
}

function definitionOf({ path, text, name = '' }: DefinitionFile, folder: string): NetworkDefinition {
  let list: NetworkList
  try {
    list = parseConflist(text)
  } catch (problem) {
    throw brokenDefinition(path, problem)
  }
  const more = list.loadOnlyInlinedPlugins ? [] : listFolder(join(folder, name)).filter((file) => extname(file) === '.conf')
  const types = [...list.plugins.map((plugin) => String(field(plugin, 'type'))), ...more]
  const [plugin] = list.plugins
  if (plugin === undefined || types.length > 1 || types[0] !== 'tsnet') {
    const others = types.filter((type) => type !== 'tsnet')
    throw new TsnetError(
      'TSNET_DEFINITION',
      `Cannot attach to network ${quote(name)}: ${quote(path)} also runs ${others.join(', ') || 'tsnet twice'}`,
      {
        hint: 'tsnet attach runs a network whose only plugin is tsnet; a chain is for a container runtime to run',
      },
    )
  }
  return { list, plugin: withCapabilities(plugin), path }
}

/** A definition lists capabilities for runtimes; only one that is set to false is meant as a refusal. */
function withCapabilities(plugin: JsonObject): JsonObject {
  const declared = field(plugin, 'capabilities')
  return { ...plugin, capabilities: { ...CAPABILITIES, ...(isObject(declared) ? declared : {}) } }
}

function builtin(): NetworkDefinition {
  const plugin = { type: 'tsnet', capabilities: CAPABILITIES }
  const list: NetworkList = {
    name: DEFAULT_NETWORK,
    cniVersion: '1.1.0',
    disableCheck: false,
    disableGC: false,
    loadOnlyInlinedPlugins: true,
    plugins: [plugin],
  }
  return { list, plugin }
}

function listFolder(folder: string): readonly string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw new TsnetError('TSNET_DEFINITION', `Cannot list the network definitions in ${quote(folder)}`, { cause: error })
  }
}

function brokenDefinition(path: string, problem: unknown): TsnetError {
  // That it is no JSON is said by the parser, and with the place.
  const reason = problem instanceof TsnetError && problem.cause !== undefined ? problem.cause : problem
  return new TsnetError('TSNET_DEFINITION', `Cannot use the network definition ${quote(path)}: ${describe(reason)}`, {
    hint: 'Correct the file, or move it away',
  })
}

function noNetwork(name: string, folder: string, known: { readonly names: readonly string[]; readonly broken: readonly string[] }): TsnetError {
  const names = [...new Set([DEFAULT_NETWORK, ...known.names])].join(', ')
  const broken = known.broken.length > 0 ? `; cannot read ${known.broken.join(', ')}` : ''
  const sample = JSON.stringify({ cniVersion: '1.1.0', name, plugins: [{ type: 'tsnet' }] })
  return new TsnetError('TSNET_NO_NETWORK', `Cannot find the network ${quote(name)}: ${quote(folder)} has no definition of it${broken}`, {
    hint: `Known are ${names}; to define it, write ${sample} into ${folder}/${name}.conflist`,
  })
}
