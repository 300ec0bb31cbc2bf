/** The configuration of type `dhcp`: the keys of the reference plugin. */
import { isAbsolute } from 'node:path'
import {
  field,
  invalidField,
  type JsonObject,
  optionalBoolean,
  optionalInteger,
  optionalObject,
  optionalObjects,
  optionalString,
  optionalStrings,
  quote,
} from '../cni/json.ts'
import type { RawConfig } from '../cni/request.ts'
import { LONGEST_VALUE, optionCode, type RawOption } from '../dhcp/option.ts'
import { DEFAULT_SOCKET, type Wishes } from '../dhcp-daemon/protocol.ts'
import type { Owner } from '../plan/owner.ts'

/** What the result can tell, classless routes before the routers that they replace. @see RFC 3442, "DHCP Client Behavior" */
const USUAL_REQUEST = [1, 121, 3, 33, 6, 15, 119, 26, 28, 51, 58, 59]
/** Without it there is no prefix length, and with it nothing changes for a server. */
const SUBNET_MASK = 1
const CLIENT_ID = 61
/** The client's own part of the conversation. */
const OWN_OPTIONS = [50, 52, 53, 54, 55, 57]
const LONGEST_CLIENT_ID = 254

export interface DhcpConfig {
  readonly wishes: Wishes
  /** Of all routes; absent: the kernel's. */
  readonly priority?: number
  /** Whether the server's default route is left out. */
  readonly withoutGateway: boolean
}

/** @throws TsnetError TSNET_CONFIG, CNI code 7, for a path that is none */
export function parseSocketPath({ raw }: RawConfig): string {
  const path = optionalString(ipamOf(raw), 'daemonSocketPath', 'ipam.') || DEFAULT_SOCKET
  if (!isAbsolute(path) || path.includes('\0')) throw invalidField('ipam.daemonSocketPath', path, 'an absolute path')
  return path
}

/** @param args CNI_ARGS. @throws TsnetError TSNET_CONFIG, CNI code 7 */
export function parseDhcpConfig({ raw }: RawConfig, owner: Owner, args: string): DhcpConfig {
  const ipam = ipamOf(raw)
  const provided = parseProvide(ipam, args)
  const priority = optionalInteger(ipam, 'priority', { min: 0, max: 0xffffffff, path: 'ipam.' })
  const own = provided.findLast(({ code }) => code === CLIENT_ID)
  return {
    wishes: {
      clientID: own?.payload ?? clientID(owner),
      request: parseRequest(ipam),
      provide: provided.filter(({ code }) => code !== CLIENT_ID),
    },
    ...(priority !== undefined && { priority }),
    withoutGateway: parseSuppress(ipam),
  }
}

/** A text behind a type byte of 0: what the reference plugin says, so that a server gives the same container the same address. @see RFC 2132, 9.14 */
function clientID({ containerID, network, ifname }: Owner): Uint8Array {
  return Buffer.concat([Buffer.of(0), Buffer.from(`${containerID}/${network}/${ifname}`).subarray(0, LONGEST_CLIENT_ID)])
}

function parseRequest(ipam: JsonObject): readonly number[] {
  const entries = optionalObjects(ipam, 'request', 'ipam.') ?? []
  const named = entries.flatMap((entry, i) => (field(entry, 'option') === undefined ? [] : parseCode(entry, `ipam.request[${i}].`)))
  const skipsDefault = entries.some((entry, i) => optionalBoolean(entry, 'skipDefault', `ipam.request[${i}].`) ?? false)
  return [...new Set(skipsDefault ? [SUBNET_MASK, ...named] : [...USUAL_REQUEST, ...named])]
}

function parseProvide(ipam: JsonObject, args: string): readonly RawOption[] {
  const found = new Map<number, Uint8Array>()
  for (const [i, entry] of (optionalObjects(ipam, 'provide', 'ipam.') ?? []).entries()) {
    const path = `ipam.provide[${i}].`
    const code = parseCode(entry, path)
    if (OWN_OPTIONS.includes(code)) throw invalidField(`${path}option`, field(entry, 'option'), 'an option that a configuration may set')
    const argument = optionalString(entry, 'fromArg', path)
    const text = (argument ? argumentOf(args, argument) : undefined) || optionalString(entry, 'value', path)
    const payload = Buffer.from(text ?? '')
    if (payload.length > LONGEST_VALUE) throw invalidField(`${path}value`, text, `a text of up to ${LONGEST_VALUE} bytes`)
    if (payload.length > 0) found.set(code, payload)
  }
  return [...found].map(([code, payload]) => ({ code, payload }))
}

/** CNI_ARGS hold a name that only this configuration knows, so none of them is unknown. */
function argumentOf(args: string, name: string): string | undefined {
  const pair = args.split(';').find((part) => part.startsWith(`${name}=`))
  return pair?.slice(name.length + 1)
}

function parseSuppress(ipam: JsonObject): boolean {
  const words = optionalStrings(ipam, 'suppress', 'ipam.') ?? []
  const unknown = words.find((word) => word !== 'gateway')
  if (unknown !== undefined) throw invalidField('ipam.suppress', unknown, '"gateway"')
  return words.length > 0
}

function parseCode(entry: JsonObject, path: string): number {
  const value = field(entry, 'option')
  const code = typeof value === 'string' || typeof value === 'number' ? optionCode(String(value)) : undefined
  if (code === undefined) throw invalidField(`${path}option`, value ?? quote(''), 'the name or number of a DHCP option')
  return code
}

function ipamOf(raw: JsonObject): JsonObject {
  return optionalObject(raw, 'ipam') ?? {}
}
