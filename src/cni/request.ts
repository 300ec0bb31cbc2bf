/** What a runtime asks for: the environment variables and the configuration on standard input. */
import { CNI_CODE, TsnetError } from '../error.ts'
import { field, isObject, type JsonObject, optionalObject, optionalString, parseJson, present, quote } from './json.ts'
import { type CniVersion, type Command, parseVersion, requireCommandAllowed } from './version.ts'

export interface Environment {
  readonly command: Command
  /** Empty for GC, STATUS and VERSION. */
  readonly containerID: string
  /** A path; empty for GC, STATUS and VERSION, and for a DEL whose namespace is gone. */
  readonly netns: string
  /** Empty for GC, STATUS and VERSION. */
  readonly ifname: string
  /** CNI_PATH, often empty: only the delegation to another program's IPAM needs it. */
  readonly path: string
  /** CNI_ARGS as sent: parseCniArgs() reads it where its content matters, so that odd arguments never fail a DEL. */
  readonly args: string
  /** The namespace may be the plugin's own. */
  readonly netnsOverride: boolean
}

/** A configuration whose frame is checked; the members of the plugin type are read from `raw` by the plugin. */
export interface RawConfig {
  readonly cniVersion: CniVersion
  /** The network's name: letters, digits, `_`, `.`, `-`, at most 200. */
  readonly name: string
  /** Empty when absent. */
  readonly type: string
  readonly prevResult?: JsonObject
  readonly runtimeConfig: JsonObject
  /** The member `args.cni`. */
  readonly args: JsonObject
  readonly raw: JsonObject
}

/** A longer configuration is refused; a reader may stop after this many bytes and one. */
export const MAX_CONFIG_BYTES = 1024 * 1024
/** Each member has one. A one-shot process hashes keys in a way that can be foreseen (docs/decisions/0016): a MiB of such keys takes more than a minute. */
export const MAX_CONFIG_COLONS = 20_000

/** Container ids and network names become file names, with an interface name and a suffix beside them. */
const MAX_NAME_BYTES = 200
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/

const COMMANDS: readonly Command[] = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION']

/** Not CNI_PATH, though Go's skel wants it: IPAM runs inside the process, so nothing is lost where it is empty, in GC neither. */
const REQUIRED: Record<Command, readonly string[]> = {
  ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  DEL: ['CNI_CONTAINERID', 'CNI_IFNAME'],
  GC: [],
  STATUS: [],
  VERSION: [],
}

/**
 * @returns The request's parameters; those that the command does not use are empty. VERSION needs none.
 * @throws TsnetError TSNET_ENVIRONMENT, CNI code 4: variables missing (all are named at once), unknown command, bad container id or ifname
 * @see CNI spec 1.1.0, "Section 2: Execution Protocol", "Parameters"; containernetworking/cni pkg/skel/skel.go, getCmdArgsFromEnv
 */
export function parseEnvironment(env: Readonly<Record<string, string | undefined>>): Environment {
  const text = env.CNI_COMMAND ?? ''
  const command = COMMANDS.find((known) => known === text)
  if (text !== '' && command === undefined) throw environmentError(`unknown CNI_COMMAND: ${quote(text).slice(1, -1)}`)
  const missing = (command === undefined ? ['CNI_COMMAND'] : REQUIRED[command]).filter((name) => !env[name])
  if (command === undefined || missing.length > 0) throw environmentError(`required env variables [${missing.join(',')}] missing`)
  const perContainer = REQUIRED[command].length > 0
  const containerID = perContainer ? (env.CNI_CONTAINERID ?? '') : ''
  const ifname = perContainer ? (env.CNI_IFNAME ?? '') : ''
  if (perContainer) {
    checkContainerID(containerID)
    checkIfname(ifname)
  }
  return {
    command,
    containerID,
    netns: perContainer ? (env.CNI_NETNS ?? '') : '',
    ifname,
    path: env.CNI_PATH ?? '',
    args: env.CNI_ARGS ?? '',
    netnsOverride: /^(true|1)$/i.test(env.CNI_NETNS_OVERRIDE ?? ''),
  }
}

/**
 * @param text All of standard input. Not for VERSION, which reads none.
 * @param spoken The versions that the plugin supports; default all.
 * @returns The configuration. For DEL, prevResult, runtimeConfig and args of the wrong type count as absent: a DEL finds what
 * to delete by container id, and a refusal would keep the container's network for ever.
 * @throws TsnetError CNI code 6: empty, longer than 1 MiB, of too many members, no JSON object, prevResult no object, name or cniVersion no string;
 * 7: no or a bad name, runtimeConfig or args no object; 1: unsupported version, or one that does not know the command
 * @see CNI spec 1.1.0, "Section 1: Network configuration format"; containernetworking/cni pkg/skel/skel.go, validateConfig
 */
export function parseConfig(text: string, command: Command, spoken?: readonly CniVersion[]): RawConfig {
  if (text.trim() === '') throw decodeError('Cannot read the network configuration: Standard input is empty')
  if (Buffer.byteLength(text) > MAX_CONFIG_BYTES) throw decodeError('Cannot read the network configuration: It is longer than 1 MiB')
  if (hasMore(text, ':', MAX_CONFIG_COLONS))
    throw decodeError(`Cannot read the network configuration: It has more than ${MAX_CONFIG_COLONS.toLocaleString('en')} colons`)
  const raw = parseJson(text)
  if (!isObject(raw)) throw decodeError(`Cannot read the network configuration: It is ${quote(raw)}, not a JSON object`)
  const name = stringOrDecodeError(raw, 'name') ?? ''
  checkNetworkName(name)
  const cniVersion = parseVersion(stringOrDecodeError(raw, 'cniVersion'), spoken)
  requireCommandAllowed(command, cniVersion)
  const source = command === 'DEL' ? withoutUnreadable(raw) : raw
  const prevResult = field(source, 'prevResult')
  if (prevResult !== undefined && !isObject(prevResult)) throw decodeError(`Invalid "prevResult": ${quote(prevResult)} is not an object`)
  const args = optionalObject(source, 'args')
  return present({
    cniVersion,
    name,
    type: optionalString(raw, 'type') ?? '',
    prevResult,
    runtimeConfig: optionalObject(source, 'runtimeConfig') ?? {},
    args: (args && optionalObject(args, 'cni', 'args.')) ?? {},
    raw,
  })
}

/**
 * @param name A container id, as it comes from the runtime.
 * @throws TsnetError TSNET_ENVIRONMENT, CNI code 4, unless it is 1 to 200 letters, digits, `_`, `.`, `-`, a letter or digit first
 * @see containernetworking/cni pkg/utils/utils.go, ValidateContainerID
 */
export function checkContainerID(name: string): void {
  if (name.length > MAX_NAME_BYTES) throw environmentError(`containerID is longer than ${MAX_NAME_BYTES} bytes`, quote(name))
  if (!NAME.test(name)) throw environmentError('invalid characters in containerID', quote(name))
}

/**
 * @throws TsnetError TSNET_CONFIG, CNI code 7, unless the name is 1 to 200 letters, digits, `_`, `.`, `-`, a letter or digit first
 * @see containernetworking/cni pkg/utils/utils.go, ValidateNetworkName
 */
export function checkNetworkName(name: string): void {
  if (name === '') throw nameError('missing network name')
  if (name.length > MAX_NAME_BYTES) throw nameError(`network name is longer than ${MAX_NAME_BYTES} bytes`, quote(name))
  if (!NAME.test(name)) throw nameError('invalid characters found in network name', quote(name))
}

/**
 * @throws TsnetError TSNET_ENVIRONMENT, CNI code 4, for a name that no interface may have
 * @see containernetworking/cni pkg/utils/utils.go, ValidateInterfaceName; kernel net/core/dev.c, dev_valid_name
 */
export function checkIfname(name: string): void {
  if (name === '') throw environmentError('interface name is empty')
  if (Buffer.byteLength(name) > 15) throw environmentError('interface name is too long', `${quote(name)} has more than 15 bytes`)
  if (name === '.' || name === '..') throw environmentError('interface name is . or ..')
  // The kernel would make "eth%d" to eth0 or eth1, and U+FFFD stands for bytes that were no UTF-8: both would name another interface.
  if (/[\s/:%\ufffd]|\p{Cc}/u.test(name))
    throw environmentError('interface name contains / or : or % or whitespace or control characters', quote(name))
}

/** Takes away what DEL can do without, where its type is wrong. */
function withoutUnreadable(raw: JsonObject): JsonObject {
  const args = field(raw, 'args')
  return present({
    prevResult: objectOrUndefined(field(raw, 'prevResult')),
    runtimeConfig: objectOrUndefined(field(raw, 'runtimeConfig')),
    args: isObject(args) ? present({ cni: objectOrUndefined(field(args, 'cni')) }) : undefined,
  })
}

function objectOrUndefined(value: unknown): JsonObject | undefined {
  return isObject(value) ? value : undefined
}

/** Go decodes these two before it judges them, so a wrong type is a decoding failure. */
function stringOrDecodeError(raw: JsonObject, key: string): string | undefined {
  const value = field(raw, key)
  if (value !== undefined && typeof value !== 'string') throw decodeError(`Invalid "${key}": ${quote(value)} is not a string`)
  return value
}

function decodeError(message: string): TsnetError {
  return new TsnetError('TSNET_CONFIG', message, { cniCode: CNI_CODE.decode })
}

function nameError(message: string, details?: string): TsnetError {
  return new TsnetError('TSNET_CONFIG', message, present({ cniCode: CNI_CODE.invalidConfig, details }))
}

function environmentError(message: string, details?: string): TsnetError {
  return new TsnetError('TSNET_ENVIRONMENT', message, present({ cniCode: CNI_CODE.invalidEnvironment, details }))
}

function hasMore(text: string, wanted: string, limit: number): boolean {
  let count = 0
  for (let at = text.indexOf(wanted); at >= 0 && count <= limit; at = text.indexOf(wanted, at + 1)) count++
  return count > limit
}
