/** What a network's name stands for where tsnet alone makes it: a definition in /etc/cni/net.d, or for "tsnet" what is built in. */
import type { NetworkList } from '../cni/conflist.ts'
import { field, isObject, type JsonObject, quote } from '../cni/json.ts'
import { TsnetError } from '../error.ts'
import { type Definition, definedNames, findInFolder, noNetwork } from './definition-folder.ts'

export const DEFAULT_NETWORK = 'tsnet'

/** Capabilities that the plugin knows; what a person asks for on the command line need not be declared. */
const CAPABILITIES = { portMappings: true, ips: true, mac: true, ipRanges: true }

export interface NetworkDefinition {
  readonly list: NetworkList
  /** The plugin of type `tsnet`, able to receive what the command line asks for. */
  readonly plugin: JsonObject
  /** Absent for the network that is built in. */
  readonly path?: string
}

/**
 * @param folder Where definitions lie.
 * @throws TsnetError TSNET_NO_NETWORK when nothing has that name; TSNET_DEFINITION when its definition is broken, or has other plugins
 */
export function findDefinition(name: string, folder: string): NetworkDefinition {
  const found = findInFolder(name, folder)
  if (found !== undefined) return onlyTsnet(found)
  if (name === DEFAULT_NETWORK) return builtin()
  throw noNetwork(name, folder, [DEFAULT_NETWORK])
}

/** @returns The names that `--network` knows: the default, and those of the folder. */
export function networkNames(folder: string): readonly string[] {
  return [...new Set([DEFAULT_NETWORK, ...definedNames(folder)])]
}

function onlyTsnet({ list, path }: Definition): NetworkDefinition {
  const types = list.plugins.map((plugin) => String(field(plugin, 'type')))
  const [plugin] = list.plugins
  if (plugin !== undefined && types.length === 1 && types[0] === 'tsnet') return { list, plugin: withCapabilities(plugin), path }
  const others = types.filter((type) => type !== 'tsnet').join(', ')
  throw new TsnetError('TSNET_DEFINITION', `Cannot attach to network ${quote(list.name)}: ${quote(path)} also runs ${others || 'tsnet twice'}`, {
    hint: 'tsnet attach runs a network whose only plugin is tsnet; tsnet cni add runs any list',
  })
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
