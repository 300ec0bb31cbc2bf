/** A folder of network definitions, /etc/cni/net.d as a rule, in the order and with the rules of libcni. */
import { readdirSync, readFileSync } from 'node:fs'
import { basename, extname, join } from 'node:path'
import { type NetworkList, parseConflist } from '../cni/conflist.ts'
import { field, isObject, type JsonObject, omitFields, parseJson, quote } from '../cni/json.ts'
import { describe, isErrno, TsnetError } from '../error.ts'

export const DEFAULT_FOLDER = '/etc/cni/net.d'

export interface Definition {
  readonly list: NetworkList
  /** The list as JSON, complete: plugins from the network's own folder are in it. */
  readonly text: string
  readonly path: string
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
 * @returns The first definition of that name, or undefined.
 * @throws TsnetError TSNET_DEFINITION when the definition, or one that may be it, is broken
 * @see containernetworking/cni libcni/conf.go, LoadNetworkConf
 */
export function findInFolder(name: string, folder: string): Definition | undefined {
  const files = readDefinitions(folder)
  const file = files.find((candidate) => candidate.name === name)
  if (file !== undefined) return definitionOf(file, folder)
  const suspect = files.find(({ text, path, problem }) => problem !== undefined && (text.includes(JSON.stringify(name)) || isNamedAfter(path, name)))
  if (suspect !== undefined) throw brokenDefinition(suspect.path, suspect.problem)
  return undefined
}

/** @returns The names that are defined, in order. */
export function definedNames(folder: string): readonly string[] {
  return [...new Set(readDefinitions(folder).flatMap(({ name }) => name ?? []))]
}

/** @returns The refusal of a name that nothing defines. @param builtin Names that need no definition. */
export function noNetwork(name: string, folder: string, builtin: readonly string[] = []): TsnetError {
  const files = readDefinitions(folder)
  const names = [...new Set([...builtin, ...files.flatMap((file) => file.name ?? [])])].join(', ')
  const unreadable = files.filter(({ problem }) => problem !== undefined).map(({ path }) => path)
  const broken = unreadable.length > 0 ? `; cannot read ${unreadable.join(', ')}` : ''
  const sample = JSON.stringify({ cniVersion: '1.1.0', name, plugins: [{ type: 'tsnet' }] })
  return new TsnetError('TSNET_NO_NETWORK', `Cannot find the network ${quote(name)}: ${quote(folder)} has no definition of it${broken}`, {
    cniCode: 4,
    hint: `${names === '' ? 'None is known' : `Known are ${names}`}; to define it, write ${sample} into ${folder}/${name}.conflist`,
  })
}

/**
 * @param text A list, or a single plugin's configuration.
 * @param folder Where it lies: unless the list says loadOnlyInlinedPlugins, `<folder>/<name>/*.conf` are further plugins.
 * @returns A list that holds all its plugins, as JSON. What is no list is left for parseConflist() to refuse.
 */
export function completeList(text: string, folder: string): string {
  const list = parseJson(text, 'the network definition')
  if (!isObject(list)) return text
  const name = field(list, 'name')
  const inlined = field(list, 'plugins')
  if (inlined === undefined && field(list, 'type') !== undefined) return JSON.stringify({ ...pick(list, 'cniVersion', 'name'), plugins: [list] })
  const only = String(field(list, 'loadOnlyInlinedPlugins') ?? false).toLowerCase() !== 'false'
  const more = only || typeof name !== 'string' || !/^[a-zA-Z0-9][\w.-]*$/.test(name) ? [] : readPlugins(join(folder, name))
  if (more.length === 0 || (inlined !== undefined && !Array.isArray(inlined))) return text
  return JSON.stringify({
    ...omitFields(list, 'plugins', 'loadOnlyInlinedPlugins'),
    loadOnlyInlinedPlugins: true,
    plugins: [...(inlined ?? []), ...more],
  })
}

function pick(object: JsonObject, ...names: readonly string[]): JsonObject {
  return Object.fromEntries(names.map((name) => [name, field(object, name)] as const).filter(([, value]) => value !== undefined))
}

function readPlugins(folder: string): readonly unknown[] {
  const names = [...listFolder(folder)].sort().filter((name) => extname(name) === '.conf')
  return names.map((name) => {
    const path = join(folder, name)
    try {
      return parseJson(readFileSync(path, 'utf8'), quote(path))
    } catch (problem) {
      throw brokenDefinition(path, problem)
    }
  })
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

function definitionOf({ path, text }: DefinitionFile, folder: string): Definition {
  try {
    const complete = completeList(text, folder)
    return { list: parseConflist(complete), text: complete, path }
  } catch (problem) {
    throw problem instanceof TsnetError && problem.code === 'TSNET_DEFINITION' ? problem : brokenDefinition(path, problem)
  }
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
