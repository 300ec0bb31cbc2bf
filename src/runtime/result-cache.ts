/** What each ADD was run with, and its result: the files of libcni, so that runtimes and we can delete each other's attachments. */
import { join } from 'node:path'
import { isObject, type JsonObject, quote } from '../cni/json.ts'
import { checkContainerID, checkIfname, checkNetworkName } from '../cni/request.ts'
import { CNI_CODE, describe, TsnetError } from '../error.ts'
import type { Owner } from '../plan/owner.ts'
import { namesIn, removeFile, writeWhole } from '../plan/state-folder.ts'
import { readForeignFile } from '../sys/state-file.ts'

export const DEFAULT_CACHE_FOLDER = '/var/lib/cni'

export interface CachedAttachment extends Owner {
  /** Absent in files of libcni before 1.2. */
  readonly netns?: string
  /** The list as JSON; absent in files of libcni before 0.7.1. */
  readonly config?: string
  readonly args: readonly (readonly [key: string, value: string])[]
  readonly capabilityArgs: JsonObject
  readonly result: JsonObject
}

const KIND = 'cniCacheV1'

/**
 * @param folder The cache: the files lie in its folder `results`.
 * @throws TsnetError TSNET_CACHE, CNI code 5, when it cannot be written
 * @see containernetworking/cni libcni/api.go, cacheAdd
 */
export function writeCached(folder: string, cached: CachedAttachment): void {
  const { network, containerID, ifname, netns, config = '', args, capabilityArgs, result } = cached
  const document = {
    kind: KIND,
    containerId: containerID,
    config: Buffer.from(config).toString('base64'),
    ifName: ifname,
    networkName: network,
    ...(netns !== undefined && { netns }),
    ...(args.length > 0 && { cniArgs: args }),
    ...(Object.keys(capabilityArgs).length > 0 && { capabilityArgs }),
    result,
  }
  guarded(folder, 'write', () => writeWhole(pathOf(folder, cached), JSON.stringify(document)))
}

/**
 * @returns What is remembered of the attachment, or undefined.
 * @throws TsnetError TSNET_CACHE, CNI code 5, when its file cannot be read or holds something else
 */
export function readCached(folder: string, owner: Owner): CachedAttachment | undefined {
  const path = pathOf(folder, owner)
  const text = guarded(folder, 'read', () => readForeignFile(path))
  if (text === undefined) return undefined
  const json = parse(path, text)
  if (json['kind'] !== KIND) return { ...owner, args: [], capabilityArgs: {}, result: json }
  const found = decode(json)
  // "a-b" with "c" and "a" with "b-c" share a file name.
  return found !== undefined && found.network === owner.network && found.containerID === owner.containerID ? found : undefined
}

/** @returns Everything that is remembered of a network. What cannot be read is left out, and `onProblem` hears of it. */
export function listCached(folder: string, network: string, onProblem: (problem: string) => void): readonly CachedAttachment[] {
  const results = join(folder, 'results')
  const names = guarded(folder, 'read', () => namesIn(results)).filter((name) => name.startsWith(`${network}-`))
  const found = names.map((name) => {
    try {
      const path = join(results, name)
      const json = parse(path, readForeignFile(path) ?? '{}')
      return json['kind'] === KIND ? decode(json) : undefined
    } catch (error) {
      onProblem(describe(error))
      return undefined
    }
  })
  return found.filter((cached) => cached?.network === network).filter((cached) => cached !== undefined)
}

/** @throws TsnetError TSNET_CACHE, CNI code 5, when the file is there and stays */
export function removeCached(folder: string, owner: Owner): void {
  guarded(folder, 'write', () => removeFile(pathOf(folder, owner)))
}

function pathOf(folder: string, { network, containerID, ifname }: Owner): string {
  return join(folder, 'results', `${network}-${containerID}-${ifname}`)
}

function decode(json: JsonObject): CachedAttachment | undefined {
  const { containerId, networkName, ifName, netns, config, cniArgs, capabilityArgs, result } = json
  if (typeof containerId !== 'string' || typeof networkName !== 'string' || typeof ifName !== 'string') return undefined
  if (!areNames(containerId, networkName, ifName)) return undefined
  const text = typeof config === 'string' ? Buffer.from(config, 'base64').toString('utf8') : ''
  return {
    network: networkName,
    containerID: containerId,
    ifname: ifName,
    ...(typeof netns === 'string' && netns !== '' && { netns }),
    ...(text !== '' && { config: text }),
    args: Array.isArray(cniArgs) ? cniArgs.filter(isPair) : [],
    capabilityArgs: isObject(capabilityArgs) ? capabilityArgs : {},
    result: isObject(result) ? result : {},
  }
}

/** They become paths and variables again. */
function areNames(containerID: string, network: string, ifname: string): boolean {
  try {
    checkContainerID(containerID)
    checkNetworkName(network)
    checkIfname(ifname)
    return true
  } catch {
    return false
  }
}

function isPair(value: unknown): value is [string, string] {
  return Array.isArray(value) && value.length === 2 && value.every((part) => typeof part === 'string')
}

function parse(path: string, text: string): JsonObject {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {}
  if (isObject(json)) return json
  throw new TsnetError('TSNET_CACHE', `Cannot use the cached result ${quote(path)}: it is no JSON object`, {
    cniCode: CNI_CODE.io,
    hint: 'Move the file away; DEL works without it',
  })
}

function guarded<T>(folder: string, what: string, act: () => T): T {
  try {
    return act()
  } catch (cause) {
    if (cause instanceof TsnetError) throw cause
    throw new TsnetError('TSNET_CACHE', `Cannot ${what} the cached results in ${quote(folder)}`, {
      cniCode: CNI_CODE.io,
      hint: 'CNI_CACHE_DIR names another folder',
      cause,
    })
  }
}
