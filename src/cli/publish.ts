/** `-p [hostIP:][hostPort:]containerPort[/protocol]`, as `docker run -p` takes it. */

import { quote } from '../cni/json.ts'
import type { TsnetError } from '../error.ts'
import { parseAddress, parsePrefix } from '../wire/ip-address.ts'
import { type Arguments, texts } from './options.ts'
import { usageError } from './usage-error.ts'

/** One entry of the capability portMappings. */
export interface PublishedMapping {
  /** 0 when tsnet is to choose. */
  readonly hostPort: number
  readonly containerPort: number
  readonly protocol: string
  readonly hostIP?: string
  /** How many ports in a row, where there are several. */
  readonly range?: number
  /** Who alone may connect; absent: everybody. */
  readonly allow?: readonly string[]
}

interface PortRange {
  readonly first: number
  readonly last: number
}

const PROTOCOLS = ['tcp', 'udp', 'sctp']
const FORM = 'The form is [hostIP:][hostPort:]containerPort[/tcp|udp|sctp], for example 8080:80 or 127.0.0.1:5353:53/udp'
/** What `--allow` is for. */
export const ALLOW = 'Let only this address or prefix connect to what -p publishes; may be repeated'
/** How one says that tsnet is to choose. */
const CHOOSE = ['', '0']

/**
 * @returns What `-p` and `--allow` ask for.
 * @throws TsnetError TSNET_USAGE for a value that is none, or for `--allow` alone
 */
export function parsePublished(args: Arguments): readonly PublishedMapping[] {
  const mappings = texts(args, 'publish').map(parsePublish)
  const allow = texts(args, 'allow')
  const wrong = allow.find((text) => parseAddress(text) === undefined && parsePrefix(text) === undefined)
  if (wrong !== undefined) throw usageError(`Cannot allow ${quote(wrong)}: it is no IP address or prefix`, 'For example --allow 192.0.2.0/24')
  if (allow.length > 0 && mappings.length === 0) throw usageError('Cannot use --allow without -p', 'It says who may connect to what -p publishes')
  return allow.length === 0 ? mappings : mappings.map((mapping) => ({ ...mapping, allow }))
}

/**
 * @param text What follows `-p`.
 * @returns The mapping for the capability portMappings.
 * @throws TsnetError TSNET_USAGE that says which part is wrong and how it is written
 */
export function parsePublish(text: string): PublishedMapping {
  const slash = text.lastIndexOf('/')
  const protocol = slash < 0 ? 'tcp' : text.slice(slash + 1).toLowerCase()
  if (!PROTOCOLS.includes(protocol))
    throw refuse(text, `${quote(text.slice(slash + 1))} is no protocol`, 'The protocols are tcp, udp and sctp, for example 5353:53/udp')
  const { hostIP, hostPorts, containerPorts } = split(text, slash < 0 ? text : text.slice(0, slash))
  const host = CHOOSE.includes(hostPorts) ? undefined : parseRange(text, hostPorts, 'host')
  const container = parseRange(text, containerPorts, 'container')
  if (host !== undefined) refuseLengths(text, host, container)
  const count = container.last - container.first + 1
  return {
    hostPort: host?.first ?? 0,
    containerPort: container.first,
    protocol,
    ...(hostIP !== undefined && { hostIP }),
    ...(count > 1 && { range: count }),
  }
}

function refuseLengths(text: string, host: PortRange, container: PortRange): void {
  const count = host.last - host.first + 1
  const containerCount = container.last - container.first + 1
  if (count === containerCount) return
  const last = container.first + count - 1
  const example = `${host.first}${count > 1 ? `-${host.last}` : ''}:${container.first}${count > 1 ? `-${last}` : ''}`
  throw refuse(
    text,
    `${count} ${ports(count)} of the host cannot lead to ${containerCount} of the container`,
    last <= 65535 ? `Give ranges of the same length: ${example}` : 'Give ranges of the same length',
  )
}

/** The host's address may be in brackets, and must be when it is one of IPv6. */
function split(text: string, rest: string): { readonly hostIP?: string; readonly hostPorts: string; readonly containerPorts: string } {
  const [, bracketed, tail = ''] = /^\[([^\]]*)\]:(.*)$/.exec(rest) ?? []
  const parts = (bracketed === undefined ? rest : tail).split(':')
  const wanted = bracketed === undefined ? 3 : 2
  if (bracketed === undefined && parts.length > 3)
    throw refuse(text, 'it has too many colons', 'An IPv6 address stands in brackets, for example [::1]:8080:80')
  if (parts.length < 2 && bracketed === undefined) return { hostPorts: '', containerPorts: rest }
  if (parts.length > wanted || parts.length < 2) throw refuse(text, 'it is not complete', FORM)
  const [hostPorts = '', containerPorts = ''] = parts.slice(-2)
  const address = bracketed ?? (parts.length === 3 ? parts[0] : undefined)
  if (address === undefined) return { hostPorts, containerPorts }
  const family = parseAddress(address)?.family
  if (family === undefined || (bracketed !== undefined && family === 4)) {
    throw refuse(
      text,
      `${quote(address)} is no ${bracketed === undefined ? 'IP' : 'IPv6'} address`,
      bracketed === undefined ? FORM : 'Only an IPv6 address stands in brackets, for example [::1]:8080:80',
    )
  }
  return { hostIP: address, hostPorts, containerPorts }
}

function parseRange(text: string, range: string, side: 'host' | 'container'): PortRange {
  if (range === '') throw refuse(text, `it names no ${side} port`, FORM)
  const [, first, last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(range) ?? []
  if (first === undefined) throw refuse(text, `${quote(range)} is no port or range of ports`, FORM)
  for (const port of [first, last]) {
    if (Number(port) < 1 || Number(port) > 65535) throw refuse(text, `${side} port ${port} is out of range`, 'Ports go from 1 to 65535')
  }
  if (Number(last) < Number(first)) throw refuse(text, `the range ${range} ends before it begins`, `Write ${last}-${first}`)
  return { first: Number(first), last: Number(last) }
}

function ports(count: number): string {
  return count === 1 ? 'port' : 'ports'
}

function refuse(text: string, reason: string, hint: string): TsnetError {
  return usageError(`Cannot publish ${quote(text)}: ${reason}`, hint)
}
