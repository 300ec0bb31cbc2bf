/** The configuration of type `host-local`. @see containernetworking/plugins plugins/ipam/host-local/backend/allocator/config.go */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { type RequestedRange, requestedAddresses, requestedRanges } from '../cni/capabilities.ts'
import { parseCniArgs } from '../cni/cni-args.ts'
import { invalidField, isObject, type JsonObject, optionalArray, optionalObject, optionalString, present, quote } from '../cni/json.ts'
import { parseRoutes, type ResultDns, type ResultRoute } from '../cni/result.ts'
import { isAtLeast } from '../cni/version.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { parseHostLocalSets } from '../ipam/host-local/range-sets.ts'
import type { NetworkFolder } from '../ipam/host-local/reservation-store.ts'
import type { RangeSet } from '../ipam/range.ts'
import type { IpAddress } from '../wire/ip-address.ts'
import type { PluginRequest } from './plugin.ts'

export const DEFAULT_DATA_DIR = '/var/lib/cni/networks'
/** resolv.conf(5) allows six search domains of 256 characters; whatever is longer is no such file. */
const LONGEST_RESOLV_CONF = 65536

export interface HostLocalConfig {
  readonly folder: NetworkFolder
  readonly sets: readonly RangeSet[]
  readonly requested: readonly IpAddress[]
  readonly routes: readonly ResultRoute[]
}

/** @throws TsnetError with CNI code 7 for a bad value, 4 for bad CNI_ARGS */
export function parseHostLocalConfig(request: PluginRequest): HostLocalConfig {
  const { config, environment } = request
  const ipam = ipamObject(config.raw)
  const wishes = { ...config, cniArgs: parseCniArgs(environment.args) }
  const sets = parseHostLocalSets([...requestedRanges(config.runtimeConfig), ...ownRange(ipam), ...rangeSets(ipam)])
  refuseSeveral(sets, request)
  return {
    folder: folderOf(request),
    sets,
    requested: requestedAddresses(wishes).map(({ address }) => address),
    routes: parseRoutes(ipam, 'ipam.'),
  }
}

/** @returns Where the reservations are: all that DEL and GC need. @throws TsnetError with CNI code 7 */
export function folderOf({ config }: PluginRequest): NetworkFolder {
  const dataDir = optionalString(optionalObject(config.raw, 'ipam') ?? {}, 'dataDir', 'ipam.') || DEFAULT_DATA_DIR
  if (!isAbsolute(dataDir) || dataDir.includes('\0')) throw invalidField('ipam.dataDir', dataDir, 'an absolute path')
  return { dataDir, network: config.name }
}

/** @returns What `ipam.resolvConf` says; nothing when there is none. @throws TsnetError with CNI code 7 when it cannot be read */
export function readDns({ config }: PluginRequest): ResultDns {
  const path = optionalString(ipamObject(config.raw), 'resolvConf', 'ipam.')
  if (!path) return {}
  try {
    return parseResolvConf(readSmallFile(path))
  } catch (cause) {
    throw new TsnetError('TSNET_CONFIG', `Cannot read "ipam.resolvConf" ${quote(path)}`, { cniCode: CNI_CODE.invalidConfig, cause })
  }
}

/** @returns The members that a file of the form of resolv.conf(5) sets; of several `domain` lines the last counts. */
export function parseResolvConf(text: string): ResultDns {
  const lines = text.split('\n').map((line) => line.trim().split(/\s+/))
  const of = (key: string) => lines.filter(([first]) => first === key).map(([, ...values]) => values)
  const list = (values: readonly (string | undefined)[]) => {
    const found = values.filter((value) => value !== undefined)
    return found.length > 0 ? found : undefined
  }
  return present({
    nameservers: list(of('nameserver').map(([address]) => address)),
    domain: of('domain').at(-1)?.[0],
    search: list(of('search').flat()),
    options: list(of('options').flat()),
  })
}

function ipamObject(raw: JsonObject): JsonObject {
  const ipam = optionalObject(raw, 'ipam')
  if (ipam !== undefined) return ipam
  throw new TsnetError('TSNET_CONFIG', "IPAM config missing 'ipam' key", { cniCode: CNI_CODE.invalidConfig })
}

/** The old style: one range, named in `ipam` itself. */
function ownRange(ipam: JsonObject): readonly (readonly RequestedRange[])[] {
  return optionalString(ipam, 'subnet', 'ipam.') ? [[parseRange(ipam, 'ipam')]] : []
}

function rangeSets(ipam: JsonObject): readonly (readonly RequestedRange[])[] {
  return (optionalArray(ipam, 'ranges', 'ipam.') ?? []).map((set, i) => {
    if (!Array.isArray(set)) throw invalidField(`ipam.ranges[${i}]`, set, 'a list')
    return set.map((range: unknown, j) => parseRange(range, `ipam.ranges[${i}][${j}]`))
  })
}

function parseRange(range: unknown, path: string): RequestedRange {
  if (!isObject(range)) throw invalidField(path, range, 'an object')
  const text = (key: string) => optionalString(range, key, `${path}.`) || undefined
  return present({ subnet: text('subnet') ?? '', rangeStart: text('rangeStart'), rangeEnd: text('rangeEnd'), gateway: text('gateway') })
}

/** Results before 0.3.0 have room for one address of each family. */
function refuseSeveral(sets: readonly RangeSet[], { config }: PluginRequest): void {
  const families = sets.map(([range]) => range?.first.family)
  if (new Set(families).size === families.length || isAtLeast(config.cniVersion, '0.3.0')) return
  throw new TsnetError('TSNET_CONFIG', `CNI version ${config.cniVersion} does not support more than 1 address per family`, {
    cniCode: CNI_CODE.invalidConfig,
  })
}

function readSmallFile(path: string): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    if (!fstatSync(fd).isFile()) throw new TsnetError('TSNET_CONFIG', `${quote(path)} is no file`)
    const bytes = Buffer.alloc(LONGEST_RESOLV_CONF)
    return bytes.toString('utf8', 0, readSync(fd, bytes, 0, bytes.length, 0))
  } finally {
    closeSync(fd)
  }
}
