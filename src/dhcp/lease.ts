/** What a server grants, read from its answer. Everything in it is a stranger's word: what is no plain value is left out. */
import { formatAddress, parseAddress, parsePrefix } from '../wire/ip-address.ts'
import type { DhcpMessage } from './message.ts'
import type { Options } from './option.ts'
import type { OfferedRoute } from './option-codec.ts'

/** A lease without an end. */
export const NEVER = Number.MAX_SAFE_INTEGER

const INFINITE = 0xffffffff
/** Granted for when a server says nothing, though it must. Seconds. */
const USUAL_LEASE = 3600
/** A shorter one would have the client ask without a pause. Seconds. */
const SHORTEST_LEASE = 2
/** Shares of the lease time. @see RFC 2131, 4.4.5 */
const RENEWAL = 0.5
const REBINDING = 0.875
/** @see RFC 791, 3.1: every host takes that much */
const SMALLEST_MTU = 68
const MOST_ENTRIES = 64
const DOMAIN = /^(?=.{1,253}$)[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,62})(\.[a-zA-Z0-9_][a-zA-Z0-9_-]{0,62})*$/

export interface DhcpLease {
  readonly address: string
  readonly prefixLength: number
  /** The server's address, and the hardware address that its answers come from: the server's own, or the relay's; 12 hexadecimal digits. */
  readonly server: string
  readonly serverMac: string
  readonly routers: readonly string[]
  readonly staticRoutes: readonly OfferedRoute[]
  /** Absent: the server did not say; then routers and static routes count. @see RFC 3442 */
  readonly classlessRoutes?: readonly OfferedRoute[]
  readonly nameservers: readonly string[]
  readonly domain?: string
  readonly search: readonly string[]
  /** Bytes. */
  readonly mtu?: number
  /** When to act, in milliseconds of the clock that the lease was read by; NEVER for one without an end. */
  readonly renewAt: number
  readonly rebindAt: number
  readonly expireAt: number
}

export interface Answer {
  readonly message: DhcpMessage
  /** Whose frame it was: a hardware address, hexadecimal digits without anything between. */
  readonly from: string
}

/**
 * @param since When the request went out: the lease time counts from then. @see RFC 2131, 4.4.1
 * @returns The lease, or why there is none in the answer, in words that continue "it".
 */
export function readLease({ message, from }: Answer, since: number): DhcpLease | string {
  const { options, yiaddr } = message
  const prefixLength = maskLength(options.subnetMask)
  if (!isHost(yiaddr)) return `names the address ${yiaddr}`
  if (options.serverID === undefined || !isHost(options.serverID)) return 'does not say which server it is from'
  if (prefixLength === undefined) return options.subnetMask === undefined ? 'names no subnet mask' : `names the subnet mask ${options.subnetMask}`
  const domain = options.domainName?.replace(/\.$/, '')
  return {
    address: yiaddr,
    prefixLength,
    server: options.serverID,
    serverMac: from,
    routers: (options.routers ?? []).filter(isHost).slice(0, MOST_ENTRIES),
    staticRoutes: usableRoutes(options.staticRoutes ?? []),
    ...(options.classlessRoutes !== undefined && { classlessRoutes: usableRoutes(options.classlessRoutes) }),
    nameservers: (options.nameservers ?? []).filter(isHost).slice(0, MOST_ENTRIES),
    ...(domain !== undefined && DOMAIN.test(domain) && { domain }),
    search: (options.domainSearch ?? []).filter((name) => DOMAIN.test(name)).slice(0, MOST_ENTRIES),
    ...(options.mtu !== undefined && options.mtu >= SMALLEST_MTU && { mtu: options.mtu }),
    ...times(options, since),
  }
}

/** @returns The moments, in their order whatever the server says. */
function times(
  { leaseTime = USUAL_LEASE, renewalTime, rebindingTime }: Options,
  since: number,
): Pick<DhcpLease, 'renewAt' | 'rebindAt' | 'expireAt'> {
  if (leaseTime === INFINITE) return { renewAt: NEVER, rebindAt: NEVER, expireAt: NEVER }
  const lease = Math.max(leaseTime, SHORTEST_LEASE)
  const rebind = rebindingTime !== undefined && rebindingTime >= 1 && rebindingTime <= lease ? rebindingTime : lease * REBINDING
  const renew = renewalTime !== undefined && renewalTime >= 1 && renewalTime <= rebind ? renewalTime : Math.min(lease * RENEWAL, rebind)
  return { renewAt: since + renew * 1000, rebindAt: since + rebind * 1000, expireAt: since + lease * 1000 }
}

/** @returns The length of a mask whose ones come first, undefined for any other, and for none. */
function maskLength(mask: string | undefined): number | undefined {
  const value = mask === undefined ? undefined : parseAddress(mask)?.value
  if (value === undefined) return undefined
  const length = Array.from({ length: 32 }, (_, bit) => (value >> BigInt(31 - bit)) & 1n).lastIndexOf(1n) + 1
  const whole = length === 0 ? 0n : ((1n << BigInt(length)) - 1n) << BigInt(32 - length)
  return length > 0 && value === whole ? length : undefined
}

/** Whether one machine can have this address: neither of network 0 or 127, nor multicast or beyond. */
function isHost(text: string): boolean {
  const first = (parseAddress(text)?.value ?? 0n) >> 24n
  return first > 0n && first !== 127n && first < 224n
}

/** Those with host bits cleared, and with a gateway that can be one or that says: on the link. */
function usableRoutes(routes: readonly OfferedRoute[]): readonly OfferedRoute[] {
  return routes.slice(0, MOST_ENTRIES).flatMap(({ destination, gateway }) => {
    const prefix = parsePrefix(destination)
    if (prefix === undefined || (!isHost(gateway) && gateway !== '0.0.0.0')) return []
    const host = BigInt(32 - prefix.prefixLength)
    const network = { family: 4 as const, value: (prefix.address.value >> host) << host }
    return [{ destination: `${formatAddress(network)}/${prefix.prefixLength}`, gateway }]
  })
}
