/** The keys of type `tsnet` that say who may reach whom. */
import { field, invalidField, type JsonObject, optionalBoolean, optionalString, optionalStrings } from '../cni/json.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { disjointPrefixes } from '../nat/model.ts'
import type { NetworkPolicy } from '../plan/policy.ts'
import { formatAddress, formatPrefix, type IpAddress, parseAddress, parsePrefix } from '../wire/ip-address.ts'

const MAX_TRUSTED = 256
/** What an internal network cannot have: each is a way out or in. */
const WAYS_OUT = ['isDefaultGateway', 'ipMasq', 'snat', 'trusted', 'gatewayMode']

/**
 * @returns What `icc`, `internal`, `gatewayMode`, `snat` and `trusted` say.
 * @throws TsnetError TSNET_CONFIG, CNI code 7, for a bad value or keys that contradict each other
 */
export function parsePolicy(raw: JsonObject): NetworkPolicy {
  const policy = {
    icc: optionalBoolean(raw, 'icc') ?? parseIngressPolicy(raw) !== 'isolated',
    internal: optionalBoolean(raw, 'internal') ?? false,
    routed: parseGatewayMode(raw) === 'routed',
    snat: parseSnat(raw),
    trusted: parseTrusted(raw),
  }
  if (optionalBoolean(raw, 'isGateway') === false && (policy.routed || policy.trusted.length > 0 || policy.internal || !policy.icc))
    throw contradiction('isGateway', 'false', 'the host neither forwards nor filters then')
  const way = policy.internal ? WAYS_OUT.find((key) => isAskedFor(field(raw, key))) : undefined
  if (way !== undefined) throw contradiction(way, 'set', 'the network is internal')
  if (policy.snat.length > 0 && (optionalBoolean(raw, 'ipMasq') ?? !policy.routed) === false)
    throw contradiction('snat', 'set', 'packets keep their addresses without "ipMasq"')
  return policy
}

function isAskedFor(value: unknown): boolean {
  return value !== undefined && value !== null && value !== false && value !== '' && value !== 'nat' && !(Array.isArray(value) && value.length === 0)
}

/** Of the reference firewall plugin. Networks are kept apart in any case, which is its `same-bridge`. */
function parseIngressPolicy(raw: JsonObject): 'same-bridge' | 'isolated' {
  const policy = optionalString(raw, 'ingressPolicy') || 'same-bridge'
  if (policy === 'same-bridge' || policy === 'isolated') return policy
  throw invalidField('ingressPolicy', policy, '"same-bridge" or "isolated": networks of type "tsnet" are always kept apart')
}

function parseGatewayMode(raw: JsonObject): 'nat' | 'routed' {
  const mode = optionalString(raw, 'gatewayMode') || 'nat'
  if (mode === 'nat' || mode === 'routed') return mode
  throw invalidField('gatewayMode', mode, '"nat" or "routed"')
}

/** @returns The addresses as the kernel writes them, IPv4 first. */
function parseSnat(raw: JsonObject): readonly string[] {
  const value = field(raw, 'snat')
  const texts = typeof value === 'string' && value !== '' ? [value] : (optionalStrings(raw, 'snat') ?? [])
  const addresses = texts.map((text) => {
    const address = parseAddress(text)
    if (address === undefined || !isUnicast(address)) throw invalidField('snat', text, 'an address of this host')
    return address
  })
  if (new Set(addresses.map(({ family }) => family)).size < addresses.length) throw invalidField('snat', texts, 'at most one address of each family')
  return addresses.sort((a, b) => a.family - b.family).map(formatAddress)
}

/** Neither unspecified, nor loopback, nor multicast or broadcast. */
function isUnicast({ family, value }: IpAddress): boolean {
  return family === 4 ? value >> 24n !== 0n && value >> 24n !== 127n && value >> 24n < 224n : value > 1n && value >> 120n !== 0xffn
}

function parseTrusted(raw: JsonObject): readonly string[] {
  const texts = optionalStrings(raw, 'trusted') ?? []
  if (texts.length > MAX_TRUSTED) throw invalidField('trusted', texts.length, `up to ${MAX_TRUSTED} prefixes`)
  const prefixes = texts.map((text) => {
    const prefix = parsePrefix(text)
    if (prefix === undefined) throw invalidField('trusted', text, 'of the form address/length')
    return prefix
  })
  return disjointPrefixes(prefixes).map(formatPrefix)
}

function contradiction(key: string, value: string, reason: string): TsnetError {
  return new TsnetError('TSNET_CONFIG', `Cannot have "${key}" ${value}: ${reason}`, { cniCode: CNI_CODE.invalidConfig })
}
