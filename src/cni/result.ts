/** Results of CNI plugins: one value, in the shape of every version of the specification. */
import { CNI_CODE, TsnetError } from '../error.ts'
import { parseAddress, parsePrefix } from '../wire/ip-address.ts'
import {
  invalidField,
  isObject,
  type JsonObject,
  optionalInteger,
  optionalObject,
  optionalObjects,
  optionalString,
  optionalStrings,
  present,
  quote,
} from './json.ts'
import { type CniVersion, isAtLeast } from './version.ts'

/** RT_TABLE_MAIN of include/uapi/linux/rtnetlink.h. */
const MAIN_TABLE = 254

export interface ResultInterface {
  readonly name: string
  readonly mac?: string
  readonly mtu?: number
  /** The path of the network namespace; absent for an interface of the host. */
  readonly sandbox?: string
  readonly socketPath?: string
  readonly pciID?: string
}

export interface ResultIp {
  /** `address/length`, the host bits kept. */
  readonly address: string
  readonly gateway?: string
  /** An index of `interfaces`; what others wrote may point nowhere. */
  readonly interface?: number
}

export interface ResultRoute {
  /** `network/length`. */
  readonly dst: string
  readonly gw?: string
  readonly mtu?: number
  readonly advmss?: number
  readonly priority?: number
  /** Absent: the main table; not the same as 0. */
  readonly table?: number
  /** Absent: global; not the same as 0 where Go reads it. */
  readonly scope?: number
}

export interface ResultDns {
  readonly nameservers?: readonly string[]
  readonly domain?: string
  readonly search?: readonly string[]
  readonly options?: readonly string[]
}

/** What an ADD made, as version 1.1.0 tells it. Texts of a parsed one are the caller's: addresses are checked, names are not. */
export interface Result {
  readonly interfaces: readonly ResultInterface[]
  readonly ips: readonly ResultIp[]
  readonly routes: readonly ResultRoute[]
  readonly dns: ResultDns
}

const U32 = { min: 0, max: 0xffffffff }
const INT32 = { min: -0x80000000, max: 0x7fffffff }

/**
 * @returns The document to print for a configuration of this version. Before 0.3.0 it holds the first address of each family
 * and the routes of the families that have one; before 1.0.0 interfaces have only name, mac and sandbox.
 * @throws TsnetError TSNET_RESULT, CNI code 7, before 0.3.0 without any address
 * @see CNI spec 1.1.0, "Section 5: Result Types"; containernetworking/cni pkg/types/{020,040,100}
 */
export function formatResult(result: Result, version: CniVersion): JsonObject {
  if (!isAtLeast(version, '0.3.0')) return formatResult02(result, version)
  const old = !isAtLeast(version, '1.0.0')
  const { interfaces, ips } = result
  return present({
    cniVersion: version,
    interfaces: unlessEmpty(old ? interfaces.map(({ name, mac, sandbox }) => present({ name, mac, sandbox })) : interfaces),
    ips: unlessEmpty(old ? ips.map((ip) => ({ version: isV6(ip.address) ? '6' : '4', ...ip })) : ips),
    routes: unlessEmpty(routesIn(result, version)),
    dns: old || Object.keys(result.dns).length > 0 ? result.dns : undefined,
  })
}

/**
 * @param json A prevResult or a delegate's result; null is a result without content.
 * @param version The configuration's; a result without cniVersion is in this version.
 * @returns The result. From before 0.3.0: IPv4 first, no interfaces.
 * @throws TsnetError CNI code 6 unless it is an object, 1 when it is in a version of another shape, 7 for a bad member
 * @see CNI spec 1.1.0, "Section 5: Result Types"; containernetworking/cni pkg/types/{020,040,100}
 */
export function parseResult(json: unknown, version: CniVersion): Result {
  const object = json ?? {}
  if (!isObject(object))
    throw new TsnetError('TSNET_RESULT', `Cannot read the result: It is ${quote(json)}, not an object`, { cniCode: CNI_CODE.decode })
  const own = optionalString(object, 'cniVersion', 'result.') || version
  if (shape(own) !== shape(version)) {
    throw new TsnetError('TSNET_RESULT', `Cannot read the result: Its cniVersion is ${quote(own)}, the configuration's "${version}"`, {
      cniCode: CNI_CODE.incompatibleVersion,
    })
  }
  const dns = parseDns(optionalObject(object, 'dns', 'result.') ?? {})
  if (shape(version) === 'ip4') return { ...parseFamilies(object), dns }
  return {
    interfaces: objects(object, 'interfaces', 'result.', parseInterface),
    ips: objects(object, 'ips', 'result.', parseIp),
    routes: objects(object, 'routes', 'result.', parseRoute),
    dns,
  }
}

/** Versions before 1.1.0 have no word for the table: who reads them would take a route of another one for one of the main table. */
function routesIn({ routes }: Result, version: CniVersion): readonly ResultRoute[] {
  return isAtLeast(version, '1.1.0') ? routes : routes.filter(({ table = 0 }) => table === 0 || table === MAIN_TABLE)
}

function formatResult02(result: Result, version: CniVersion): JsonObject {
  const family = (v6: boolean) => {
    const ip = result.ips.find(({ address }) => isV6(address) === v6)
    const routes = routesIn(result, version)
      .filter(({ dst }) => isV6(dst) === v6)
      .map(({ dst, gw }) => present({ dst, gw }))
    return ip && present({ ip: ip.address, gateway: ip.gateway, routes: unlessEmpty(routes) })
  }
  const ip4 = family(false)
  const ip6 = family(true)
  if (ip4 === undefined && ip6 === undefined) {
    throw new TsnetError('TSNET_RESULT', 'cannot convert: no valid IP addresses', {
      cniCode: CNI_CODE.invalidConfig,
      details: `a result of version "${version}" needs an address`,
      hint: 'Set cniVersion to 0.3.0 or newer, or configure ipam',
    })
  }
  return present({ cniVersion: version, ip4, ip6, dns: result.dns })
}

function parseFamilies(object: JsonObject): Pick<Result, 'interfaces' | 'ips' | 'routes'> {
  const ips: ResultIp[] = []
  const routes: ResultRoute[] = []
  for (const key of ['ip4', 'ip6']) {
    const family = optionalObject(object, key, 'result.')
    if (family === undefined) continue
    const path = `result.${key}.`
    ips.push(present({ address: prefix(family, 'ip', path), gateway: address(family, 'gateway', path) }))
    routes.push(...objects(family, 'routes', path, parseRoute))
  }
  return { interfaces: [], ips, routes }
}

function parseInterface(object: JsonObject, path: string): ResultInterface {
  const text = (key: string) => optionalString(object, key, path) || undefined
  return present({
    name: text('name') ?? '',
    mac: text('mac'),
    mtu: optionalInteger(object, 'mtu', { ...U32, path }),
    sandbox: text('sandbox'),
    socketPath: text('socketPath'),
    pciID: text('pciID'),
  })
}

function parseIp(object: JsonObject, path: string): ResultIp {
  return present({
    address: prefix(object, 'address', path),
    gateway: address(object, 'gateway', path),
    interface: optionalInteger(object, 'interface', { ...INT32, path }),
  })
}

function parseRoute(object: JsonObject, path: string): ResultRoute {
  const number = (key: string) => optionalInteger(object, key, { ...U32, path })
  return present({
    dst: prefix(object, 'dst', path),
    gw: address(object, 'gw', path),
    mtu: number('mtu'),
    advmss: number('advmss'),
    priority: number('priority'),
    table: number('table'),
    scope: number('scope'),
  })
}

/**
 * @returns The members of a dns object that are set, as configurations and results write it.
 * @throws TsnetError TSNET_CONFIG, CNI code 7, for a member of the wrong type
 * @see CNI spec 1.1.0, "dns"
 */
export function parseDns(object: JsonObject, path = 'dns.'): ResultDns {
  const list = (key: string) => unlessEmpty(optionalStrings(object, key, path) ?? [])
  return present({
    nameservers: list('nameservers'),
    domain: optionalString(object, 'domain', path) || undefined,
    search: list('search'),
    options: list('options'),
  })
}

/**
 * @returns The list `routes` of an object, as configurations and results write it.
 * @throws TsnetError TSNET_CONFIG, CNI code 7
 */
export function parseRoutes(object: JsonObject, path: string): readonly ResultRoute[] {
  return objects(object, 'routes', path, parseRoute)
}

function objects<T>(object: JsonObject, key: string, path: string, parse: (member: JsonObject, path: string) => T): readonly T[] {
  return (optionalObjects(object, key, path) ?? []).map((member, i) => parse(member, `${path}${key}[${i}].`))
}

function prefix(object: JsonObject, key: string, path: string): string {
  const text = optionalString(object, key, path) ?? ''
  if (parsePrefix(text) === undefined) throw invalidField(path + key, text, 'an address with a prefix length')
  return text
}

/** Go writes an address that is not set as an empty text. */
function address(object: JsonObject, key: string, path: string): string | undefined {
  const text = optionalString(object, key, path) || undefined
  if (text !== undefined && parseAddress(text) === undefined) throw invalidField(path + key, text, 'an IP address')
  return text
}

/** Versions of one shape stand for each other. */
function shape(version: string): string {
  if (version === '0.1.0' || version === '0.2.0') return 'ip4'
  return version === '1.0.0' || version === '1.1.0' ? 'ips' : /^0\.(3\.[01]|4\.0)$/.test(version) ? 'ips with version' : version
}

function isV6(text: string): boolean {
  return text.includes(':')
}

function unlessEmpty<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length > 0 ? list : undefined
}
