/** Network definitions as they lie in /etc/cni/net.d, and what each plugin of a list gets to read of them. */
import { CNI_CODE, TsnetError } from '../error.ts'
import {
  field,
  invalidField,
  isObject,
  type JsonObject,
  omitFields,
  optionalArray,
  optionalObject,
  optionalObjects,
  optionalString,
  parseJson,
  present,
  quote,
} from './json.ts'
import { checkNetworkName } from './request.ts'
import { type CniVersion, type Command, isAtLeast, NEWEST_VERSION, parseVersion } from './version.ts'

export interface NetworkList {
  readonly name: string
  readonly cniVersion: CniVersion
  readonly disableCheck: boolean
  readonly disableGC: boolean
  /** False: files in the folder named after the network add plugins; whoever finds files appends them. */
  readonly loadOnlyInlinedPlugins: boolean
  /** As written, one or more, each with a type. */
  readonly plugins: readonly JsonObject[]
}

export interface PluginInput {
  /** Default ADD. */
  readonly command?: Command
  /** In ADD what the plugin before returned, else what the whole ADD returned. */
  readonly prevResult?: JsonObject | undefined
  /** What the runtime offers, by capability. */
  readonly capabilityArgs?: JsonObject
}

/**
 * @param text A configuration list, or a single plugin's configuration, which counts as a list of one.
 * @returns The list.
 * @throws TsnetError CNI code 6: no JSON object; 7: bad name, no plugins, plugin without type, bad member; 1: unsupported version
 * @see CNI spec 1.1.0, "Section 1: Network configuration format"; containernetworking/cni libcni/conf.go, NetworkConfFromBytes
 */
export function parseConflist(text: string): NetworkList {
  const list = parseJson(text, 'the network definition')
  if (!isObject(list)) {
    throw new TsnetError('TSNET_CONFIG', `Cannot read the network definition: It is ${quote(list)}, not an object`, { cniCode: CNI_CODE.decode })
  }
  const name = optionalString(list, 'name') ?? ''
  checkNetworkName(name)
  const single = field(list, 'plugins') === undefined && field(list, 'type') !== undefined
  const plugins = single ? [list] : (optionalObjects(list, 'plugins') ?? [])
  if (plugins.length === 0) throw invalidField('plugins', field(list, 'plugins') ?? 'absent', 'a list of one plugin or more')
  for (const [i, plugin] of plugins.entries()) checkType(plugin, single ? '' : `plugins[${i}].`)
  return {
    name,
    cniVersion: pickVersion(list),
    disableCheck: flag(list, 'disableCheck'),
    disableGC: flag(list, 'disableGC'),
    loadOnlyInlinedPlugins: single || flag(list, 'loadOnlyInlinedPlugins'),
    plugins,
  }
}

/**
 * @param plugin One of `list.plugins`.
 * @returns The configuration for the plugin's standard input: its own members with the list's name and version, prevResult
 * (CHECK and DEL: from 0.4.0 on; GC and STATUS: never), and in runtimeConfig what the plugin declares and the runtime offers.
 * A runtimeConfig that the definition holds stays only where nothing is offered.
 * @throws TsnetError TSNET_CONFIG, CNI code 7, unless capabilities is an object
 * @see CNI spec 1.1.0, "Section 3: Execution of Network Configurations", "Deriving execution configuration from plugin configuration"
 */
export function pluginInput(list: NetworkList, plugin: JsonObject, { command = 'ADD', prevResult, capabilityArgs = {} }: PluginInput): JsonObject {
  const aboutContainer = command === 'ADD' || command === 'DEL' || command === 'CHECK'
  const declared = optionalObject(plugin, 'capabilities') ?? {}
  const offered = Object.entries(capabilityArgs).filter(([capability]) => Object.hasOwn(declared, capability) && declared[capability] === true)
  const injected = present({
    cniVersion: list.cniVersion,
    name: list.name,
    prevResult: aboutContainer && (command === 'ADD' || isAtLeast(list.cniVersion, '0.4.0')) ? prevResult : undefined,
    runtimeConfig: aboutContainer && offered.length > 0 ? Object.fromEntries(offered) : undefined,
  })
  // Another spelling of the same key would win over the injected one where it stands later.
  return { ...omitFields(plugin, ...Object.keys(injected)), ...injected }
}

function checkType(plugin: JsonObject, path: string): void {
  const type = optionalString(plugin, 'type', path) ?? ''
  if (type === '' || type.includes('/')) throw invalidField(`${path}type`, type, 'the name of a plugin')
}

/** @returns The newest of cniVersion and cniVersions that is not newer than our newest. */
function pickVersion(list: JsonObject): CniVersion {
  const own = optionalString(list, 'cniVersion')
  const others = optionalArray(list, 'cniVersions') ?? []
  if (others.length === 0) return parseVersion(own)
  const newest = parts(NEWEST_VERSION, '')
  const usable = [...others, ...(own ? [own] : [])]
    .map((version, i) => ({ version, parts: parts(version, i < others.length ? `cniVersions[${i}]` : 'cniVersion') }))
    .filter((entry) => compare(entry.parts, newest) <= 0)
    .sort((a, b) => compare(a.parts, b.parts))
  return parseVersion(String(usable.at(-1)?.version ?? own ?? others[0]))
}

/** @see containernetworking/cni pkg/version/plugin.go, ParseVersion */
function parts(version: unknown, key: string): readonly number[] {
  if (typeof version !== 'string' || !/^\d{1,9}(\.\d{1,9}){0,2}$/.test(version)) throw invalidField(key, version, 'a version')
  return version.split('.').map(Number)
}

function compare(a: readonly number[], b: readonly number[]): number {
  const different = [0, 1, 2].find((i) => (a[i] ?? 0) !== (b[i] ?? 0))
  return different === undefined ? 0 : (a[different] ?? 0) - (b[different] ?? 0)
}

/** libcni takes these as truth values and as texts. */
function flag(list: JsonObject, key: string): boolean {
  const value = field(list, key) ?? false
  const text = String(value).toLowerCase()
  if ((typeof value !== 'boolean' && typeof value !== 'string') || (text !== 'true' && text !== 'false'))
    throw invalidField(key, value, 'true or false')
  return text === 'true'
}
