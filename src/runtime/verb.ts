/** One verb of one plugin of a list: what it is given, and in which version its answer is. */
import { pluginInput } from '../cni/conflist.ts'
import { field, isObject, type JsonObject } from '../cni/json.ts'
import { formatResult, parseResult } from '../cni/result.ts'
import type { ValidAttachment } from '../cni/valid-attachments.ts'
import { type CniVersion, type Command, parseVersion } from '../cni/version.ts'
import type { Definition } from './definition-folder.ts'
import { executePlugin, type Surroundings } from './execute.ts'

/** What a runtime says of a container. */
export interface RuntimeCall {
  readonly containerID: string
  readonly ifname: string
  /** Empty for a DEL whose namespace is gone. */
  readonly netns: string
  /** What CNI_ARGS says; absent: DEL and CHECK take what ADD was given. */
  readonly args?: readonly (readonly [key: string, value: string])[] | undefined
  /** What the runtime offers, by capability; absent: the same. */
  readonly capabilityArgs?: JsonObject | undefined
}

/** What a command is run with for every plugin. */
export interface Run extends RuntimeCall {
  readonly list: Definition['list']
  readonly args: NonNullable<RuntimeCall['args']>
  readonly capabilityArgs: JsonObject
}

/** Those of the verbs about a container, and those of the others. */
export interface Parameters extends Partial<Run> {
  readonly list: Run['list']
  readonly prevResult?: JsonObject | undefined
  /** For GC. */
  readonly valid?: readonly ValidAttachment[]
}

/** @returns The document that the plugin printed; undefined for none. @throws TsnetError of the plugin */
export function execute(command: Command, plugin: JsonObject, parameters: Parameters, around: Surroundings): unknown {
  const { list, prevResult, capabilityArgs, containerID = '', ifname = '', netns = '', args = [], valid } = parameters
  const input = pluginInput(list, plugin, { command, prevResult, ...(capabilityArgs && { capabilityArgs }) })
  const environment = {
    command,
    containerID,
    ifname,
    netns,
    args: args.map(([key, value]) => `${key}=${value}`).join(';'),
    netnsOverride: /^(true|1)$/i.test(around.env['CNI_NETNS_OVERRIDE'] ?? ''),
  }
  // The second is how the specification spelled it at first, and libcni still does.
  const kept = valid === undefined ? {} : { 'cni.dev/valid-attachments': valid, 'cni.dev/attachments': valid }
  return executePlugin({ type: typeOf(plugin), environment, input: { ...input, ...kept } }, around)
}

/** @returns The name of its program. */
export function typeOf(plugin: JsonObject): string {
  return String(field(plugin, 'type'))
}

/**
 * @returns A plugin's result in a version.
 * @param printed A result; one that names no version is in the list's, and null is one without content.
 * @see containernetworking/cni pkg/invoke/exec.go, fixupResultVersion
 */
export function convert(printed: unknown, version: CniVersion): JsonObject {
  const result = isObject(printed) ? printed : {}
  const own = field(result, 'cniVersion')
  const from = own === undefined || own === '' ? version : parseVersion(String(own))
  const parsed = parseResult(printed, from)
  return from === version ? { ...result, cniVersion: version } : formatResult(parsed, version)
}
