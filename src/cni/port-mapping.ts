/** The capability portMappings: which ports of the host lead to the container. */
import { type IpAddress, type IpPrefix, parseAddress, parsePrefix, singlePrefix } from '../wire/ip-address.ts'
import { invalidField, type JsonObject, optionalArray, optionalInteger, optionalObjects, optionalString, present } from './json.ts'

export type Protocol = 'tcp' | 'udp' | 'sctp'

export interface PortMapping {
  /** The first port of the host, 1..65535; 0 leaves the choice to tsnet. */
  readonly hostPort: number
  /** The container's port for hostPort; the next for the next, where there are several. */
  readonly containerPort: number
  /** How many ports in a row, 1 or more; the last of either side is at most 65535. */
  readonly count: number
  readonly protocol: Protocol
  /** Absent: every address of both families. Value 0 (0.0.0.0, ::): every address of that family only. Else: this address. */
  readonly hostIP?: IpAddress
  /** Who alone may connect; absent: everybody. Never empty. */
  readonly allow?: readonly IpPrefix[]
}

const MAX_MAPPINGS = 1000
const MAX_ALLOWED = 256

/**
 * @param runtimeConfig The configuration's runtimeConfig; CRI writes the keys inside a mapping in capitals (HostPort).
 * @returns The mappings in the given order; none when the capability is absent.
 * @throws TsnetError TSNET_CONFIG, CNI code 7, naming key and value: no container port, ports out of range, unknown protocol, bad
 * hostIP, more than 1000 mappings
 * @see CNI CONVENTIONS.md, "Dynamic Plugin specific fields (Capabilities / Runtime Configuration)"; `range` as in netavark's PortMapping;
 * `allow` is tsnet's own
 */
export function parsePortMappings(runtimeConfig: JsonObject): readonly PortMapping[] {
  const mappings = optionalObjects(runtimeConfig, 'portMappings') ?? []
  if (mappings.length > MAX_MAPPINGS) throw invalidField('portMappings', mappings.length, `a number of mappings up to ${MAX_MAPPINGS}`)
  return mappings.map((mapping, i) => parsePortMapping(mapping, `portMappings[${i}].`))
}

function parsePortMapping(mapping: JsonObject, path: string): PortMapping {
  const hostPort = optionalInteger(mapping, 'hostPort', { min: 0, max: 65535, path }) ?? 0
  const containerPort = containerPortOf(mapping, path)
  // 0 is what Go writes for a number that nobody set.
  const count = optionalInteger(mapping, 'range', { min: 0, max: 65535, path }) || 1
  const most = 65536 - Math.max(hostPort, containerPort)
  if (count > most) throw invalidField(`${path}range`, count, `a number of ports up to ${most} (the last port is 65535)`)
  return present({ hostPort, containerPort, count, protocol: protocol(mapping, path), hostIP: hostIP(mapping, path), allow: allow(mapping, path) })
}

function containerPortOf(mapping: JsonObject, path: string): number {
  const value = optionalInteger(mapping, 'containerPort', { min: 0, max: 65535, path }) ?? 0
  if (value === 0) throw invalidField(`${path}containerPort`, value, 'a port from 1 to 65535')
  return value
}

function protocol(mapping: JsonObject, path: string): Protocol {
  const text = optionalString(mapping, 'protocol', path) || 'tcp'
  const name = text.toLowerCase()
  if (name === 'tcp' || name === 'udp' || name === 'sctp') return name
  throw invalidField(`${path}protocol`, text, 'tcp, udp or sctp')
}

function hostIP(mapping: JsonObject, path: string): IpAddress | undefined {
  const text = optionalString(mapping, 'hostIP', path)
  if (!text) return undefined
  const address = parseAddress(text)
  if (address === undefined) throw invalidField(`${path}hostIP`, text, 'an IP address')
  // As for Go and the kernel, ::ffff:192.0.2.1 is an address of IPv4.
  const mapped = address.family === 6 && address.value >> 32n === 0xffffn
  return mapped ? { family: 4, value: address.value & 0xffffffffn } : address
}

/** Addresses and prefixes. An empty list is refused: whether it means everybody or nobody, somebody would be surprised. */
function allow(mapping: JsonObject, path: string): readonly IpPrefix[] | undefined {
  const list = optionalArray(mapping, 'allow', path)
  if (list === undefined) return undefined
  if (list.length === 0 || list.length > MAX_ALLOWED) throw invalidField(`${path}allow`, list.length, `a list of 1 to ${MAX_ALLOWED} prefixes`)
  return list.map((entry) => {
    const prefix = typeof entry === 'string' ? parseAllowed(entry) : undefined
    if (prefix === undefined) throw invalidField(`${path}allow`, entry, 'an IP address, or address/length')
    return prefix
  })
}

function parseAllowed(text: string): IpPrefix | undefined {
  const address = parseAddress(text)
  return address === undefined ? parsePrefix(text) : singlePrefix(address)
}
