/** The configuration of type `static`. @see containernetworking/plugins plugins/ipam/static/main.go, LoadIPAMConfig */
import { type CniArgs, parseCniArgs } from '../cni/cni-args.ts'
import { invalidField, type JsonObject, optionalObject, optionalObjects, optionalString, optionalStrings, present } from '../cni/json.ts'
import { parseDns, parseRoutes, type Result } from '../cni/result.ts'
import { isAtLeast } from '../cni/version.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { containsAddress, type IpAddress, type IpPrefix, parseAddress, parsePrefix } from '../wire/ip-address.ts'
import type { PluginRequest } from './plugin.ts'

export interface StaticAddress {
  readonly prefix: IpPrefix
  readonly gateway?: IpAddress
}

export interface StaticConfig extends Pick<Result, 'routes' | 'dns'> {
  readonly addresses: readonly StaticAddress[]
}

/**
 * Addresses are those of the configuration and of CNI_ARGS; those of args.cni.ips take the place of all these, and those of the
 * capability `ips` of all others.
 * @throws TsnetError with CNI code 7 for a bad value, 4 for bad CNI_ARGS
 */
export function parseStaticConfig({ config, environment }: PluginRequest): StaticConfig {
  const { raw, args, runtimeConfig, cniVersion } = config
  const ipam = optionalObject(raw, 'ipam')
  if (ipam === undefined) throw invalid("IPAM config missing 'ipam' key")
  const cniArgs = parseCniArgs(environment.args)
  const own = withGateways([...configured(ipam), ...ofArgs(cniArgs)], cniArgs)
  const argument = listed(args, 'args.cni.')
  const capability = listed(runtimeConfig, 'runtimeConfig.')
  const addresses = [capability, argument, own].find(({ length }) => length > 0) ?? []
  const families = addresses.map(({ prefix }) => prefix.address.family)
  if (new Set(families).size < families.length && !isAtLeast(cniVersion, '0.3.0')) {
    throw invalid(`CNI version ${cniVersion} does not support more than 1 address per family`)
  }
  return { addresses, routes: parseRoutes(ipam, 'ipam.'), dns: parseDns(optionalObject(ipam, 'dns', 'ipam.') ?? {}, 'ipam.dns.') }
}

function configured(ipam: JsonObject): readonly StaticAddress[] {
  return (optionalObjects(ipam, 'addresses', 'ipam.') ?? []).map((entry, i) => {
    const path = `ipam.addresses[${i}].`
    const text = optionalString(entry, 'address', path) ?? ''
    const gateway = optionalString(entry, 'gateway', path) || undefined
    const parsed = gateway === undefined ? undefined : parseAddress(gateway)
    if (gateway !== undefined && parsed === undefined) throw invalidField(`${path}gateway`, gateway, 'an IP address')
    return present({ ...cidr(text, "the 'address' field is expected to be in CIDR notation"), gateway: parsed })
  })
}

function ofArgs({ ip }: CniArgs): readonly StaticAddress[] {
  return (ip?.split(',') ?? []).map((text) => cidr(text.trim(), "the 'ip' field is expected to be in CIDR notation"))
}

function listed(object: JsonObject, path: string): readonly StaticAddress[] {
  return (optionalStrings(object, 'ips', path) ?? []).map((text) => cidr(text, "an entry in the 'ips' field is expected to be in CIDR notation"))
}

/** Each gateway of CNI_ARGS is for the addresses in whose subnet it is. */
function withGateways(addresses: readonly StaticAddress[], { gateway }: CniArgs): readonly StaticAddress[] {
  const gateways = (gateway?.split(',') ?? []).map((text) => {
    const parsed = parseAddress(text.trim())
    if (parsed === undefined) throw invalid(`invalid gateway address: ${JSON.stringify(text)}`)
    return parsed
  })
  return addresses.map((address) => {
    const own = address.gateway ?? gateways.findLast((candidate) => containsAddress(address.prefix, candidate))
    return own === undefined ? address : { ...address, gateway: own }
  })
}

function cidr(text: string, wish: string): StaticAddress {
  const prefix = parsePrefix(text)
  if (prefix === undefined) throw invalid(`${wish}, got: '${text}'`)
  return { prefix }
}

function invalid(message: string): TsnetError {
  return new TsnetError('TSNET_CONFIG', message, { cniCode: CNI_CODE.invalidConfig })
}
