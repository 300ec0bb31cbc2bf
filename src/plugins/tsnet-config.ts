/** The configuration of type `tsnet`: the reference bridge plugin's keys with Docker's defaults. */
import { readFileSync } from 'node:fs'
import { requestedRanges } from '../cni/capabilities.ts'
import {
  field,
  invalidField,
  isObject,
  type JsonObject,
  optionalArray,
  optionalBoolean,
  optionalInteger,
  optionalObject,
  optionalObjects,
  optionalString,
  quote,
} from '../cni/json.ts'
import type { RawConfig } from '../cni/request.ts'
import { parseDns, type ResultDns } from '../cni/result.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import type { RangeSet } from '../ipam/range.ts'
import { parseRangeSets } from '../ipam/subnet.ts'
import { parseSubnetEnv, type SubnetEnv } from '../ipam/subnet-env.ts'
import type { NetworkConfig } from '../plan/network.ts'
import type { RecordedRoute } from '../plan/record.ts'
import { parseAddress, parsePrefix } from '../wire/ip-address.ts'
import { parsePolicy } from './network-policy.ts'

export interface TsnetConfig {
  readonly network: NetworkConfig
  readonly routes: readonly RecordedRoute[]
  readonly dns: ResultDns
}

/** Keys of the reference plugins that change who can reach whom: ignoring them would be worse than refusing. */
const UNSUPPORTED = [
  'vlan',
  'vlanTrunk',
  'portIsolation',
  'promiscMode',
  'disableContainerInterface',
  'masqAll',
  'conditionsV4',
  'conditionsV6',
  'externalSetMarkChain',
]
const IPAM_TYPES: readonly (string | undefined)[] = [undefined, '', 'tsnet', 'host-local']
const RANGE_KEYS = ['subnet', 'rangeStart', 'rangeEnd', 'gateway', 'exclude']
const U32 = 0xffffffff

/** @throws TsnetError with CNI code 7 for a bad value, 2 for a key that is not supported */
export function parseTsnetConfig(config: RawConfig): TsnetConfig {
  const { raw } = config
  for (const key of UNSUPPORTED) refuseUnsupported(raw, key)
  const ipam = optionalObject(raw, 'ipam') ?? {}
  const type = optionalString(ipam, 'type', 'ipam.')
  if (!IPAM_TYPES.includes(type)) throw unsupported('ipam.type', type)
  const flannel = readSubnetFile(ipam)
  const bridge = parseBridge(raw)
  const mtu = optionalInteger(raw, 'mtu', { min: 0, max: 65535 }) || flannel?.mtu
  const policy = parsePolicy(raw)
  const gateway = optionalBoolean(raw, 'isGateway') ?? true
  return {
    network: {
      name: config.name,
      ...(bridge !== undefined && { bridge }),
      ...(mtu !== undefined && { mtu }),
      isGateway: gateway,
      isDefaultGateway: (optionalBoolean(raw, 'isDefaultGateway') ?? true) && gateway && !policy.internal,
      // FLANNEL_IPMASQ=true says that flanneld masquerades already.
      ipMasq: optionalBoolean(raw, 'ipMasq') ?? (flannel?.ipMasq !== true && !policy.internal && !policy.routed),
      hairpinMode: optionalBoolean(raw, 'hairpinMode') ?? true,
      sourceGuard: optionalBoolean(raw, 'macspoofchk') ?? false,
      backend: parseBackend(raw),
      policy,
      rangeSets: flannel?.rangeSets ?? configuredRanges(ipam, config),
    },
    routes: (optionalObjects(ipam, 'routes', 'ipam.') ?? []).map(parseRoute),
    dns: parseDns(optionalObject(raw, 'dns') ?? {}),
  }
}

/** The runtime's ranges come before the configuration's. */
function configuredRanges(ipam: JsonObject, config: RawConfig): readonly RangeSet[] {
  const sets = (optionalArray(ipam, 'ranges', 'ipam.') ?? []).map((set, i) => {
    if (!Array.isArray(set) || !set.every(isObject)) throw invalidField(`ipam.ranges[${i}]`, set, 'a list of objects')
    return set.map(rangeFields)
  })
  const own = field(ipam, 'subnet') === undefined ? [] : [[rangeFields({ ...ipam, exclude: undefined })]]
  const ranges = [...requestedRanges(config.runtimeConfig), ...own, ...sets]
  const exclude = field(ipam, 'exclude')
  return parseRangeSets({ ranges, ...(exclude !== undefined && { exclude }), ...(ranges.length === 0 ? rangeFields(ipam) : {}) })
}

function rangeFields(range: JsonObject): JsonObject {
  return Object.fromEntries(RANGE_KEYS.map((key) => [key, field(range, key)] as const).filter(([, value]) => value !== undefined))
}

function readSubnetFile(ipam: JsonObject): SubnetEnv | undefined {
  const path = optionalString(ipam, 'subnetFile', 'ipam.')
  if (path === undefined || path === '') return undefined
  if (!path.startsWith('/')) throw invalidField('ipam.subnetFile', path, 'an absolute path')
  if (field(ipam, 'subnet') !== undefined || field(ipam, 'ranges') !== undefined) {
    throw new TsnetError('TSNET_CONFIG', 'Cannot use "ipam.subnetFile" together with "ipam.subnet" or "ipam.ranges"', {
      cniCode: CNI_CODE.invalidConfig,
    })
  }
  try {
    return parseSubnetEnv(readFileSync(path, 'utf8'))
  } catch (cause) {
    if (cause instanceof TsnetError) throw cause
    throw new TsnetError('TSNET_CONFIG', `Cannot read the subnet file ${quote(path)}`, {
      cniCode: CNI_CODE.tryAgain,
      hint: 'Is flanneld running?',
      cause,
    })
  }
}

/** A stricter alphabet than the kernel's: in a rule, a `+` at the end of an interface name would stand for any ending. */
function parseBridge(raw: JsonObject): string | undefined {
  const name = optionalString(raw, 'bridge')
  if (name === undefined || name === '') return undefined
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}$/.test(name)) throw invalidField('bridge', name, 'a name of up to 15 letters, digits, "_", "." and "-"')
  return name
}

function parseBackend(raw: JsonObject): NetworkConfig['backend'] {
  const name = optionalString(raw, 'backend') || 'auto'
  if (name === 'auto' || name === 'iptables' || name === 'nftables') return name
  throw invalidField('backend', name, '"auto", "iptables" or "nftables"')
}

function parseRoute(route: JsonObject, i: number): RecordedRoute {
  const path = `ipam.routes[${i}].`
  const dst = optionalString(route, 'dst', path) ?? ''
  const gw = optionalString(route, 'gw', path)
  if (parsePrefix(dst) === undefined) throw invalidField(`${path}dst`, dst, 'of the form address/length')
  if (gw !== undefined && gw !== '' && parseAddress(gw)?.family !== parsePrefix(dst)?.address.family)
    throw invalidField(`${path}gw`, gw, 'an address of the family of "dst"')
  const number = (key: string, max = U32) => {
    const value = optionalInteger(route, key, { min: 0, max, path })
    return value === undefined ? {} : { [key]: value }
  }
  return { dst, ...(gw && { gw }), ...number('mtu'), ...number('advmss'), ...number('priority'), ...number('table'), ...number('scope', 255) }
}

function refuseUnsupported(raw: JsonObject, key: string): void {
  const value = field(raw, key)
  if (value !== undefined && value !== false && value !== 0 && !(Array.isArray(value) && value.length === 0)) throw unsupported(key, value)
}

function unsupported(key: string, value: unknown): TsnetError {
  return new TsnetError('TSNET_UNSUPPORTED', `Unsupported field "${key}": ${quote(value)}`, { cniCode: CNI_CODE.unsupportedField })
}
