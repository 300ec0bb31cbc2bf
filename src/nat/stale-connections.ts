/** Tracked connections that would go on sending packets to a former owner of a published port. */
import { isErrno } from '../error.ts'
import { deleteConntrack, listConntrack, openConntrack } from '../netlink/conntrack.ts'
import { listAddresses, openRtnetlink } from '../netlink/rtnetlink.ts'
import { AF_INET, AF_INET6 } from '../wire/address.ts'
import type { Conntrack, Tuple } from '../wire/conntrack.ts'
import { addressFromBytes, type IpAddress } from '../wire/ip-address.ts'
import type { Protocol, PublishedPort } from './model.ts'

/** @see include/uapi/linux/in.h */
const IPPROTO: Readonly<Record<Protocol, number>> = { tcp: 6, udp: 17, sctp: 132 }

/**
 * Deletes the entries whose first packet went to one of the host ports, except those that lead to where the port leads now.
 * UDP needs it: a client that goes on sending keeps its entry, and with it the old destination, alive for ever.
 * @param keep `current` spares the connections of the ports' own addresses, `none` deletes them too
 * @returns How many were deleted
 */
export function forgetConnections(ports: readonly PublishedPort[], keep: 'current' | 'none'): number {
  if (ports.length === 0) return 0
  using ct = openConntrack()
  const hostAddresses = addressesOfHost()
  let deleted = 0
  for (const [kind, group] of groupByKind(ports)) {
    const [family, protocol] = kind.split(' ').map(Number) as [number, number]
    for (const entry of list(family, protocol)) {
      const port = group.find((candidate) => wentTo(entry, candidate, hostAddresses))
      if (port === undefined || (keep === 'current' && leadsTo(entry, port.address))) continue
      if (deleteConntrack(ct, family, entry)) deleted++
    }
  }
  return deleted

  function list(family: number, protocol: number): readonly Conntrack[] {
    try {
      return listConntrack(ct, family, protocol)
    } catch (error) {
      // A kernel without connection tracking over netlink keeps no such entries that NAT rules of ours could have made.
      if (isErrno(error, 'EOPNOTSUPP', 'EPROTONOSUPPORT', 'EINVAL')) return []
      throw error
    }
  }
}

function addressesOfHost(): readonly IpAddress[] {
  using rt = openRtnetlink()
  return listAddresses(rt, 0).flatMap(({ local, address }) => {
    const bytes = local ?? address
    return bytes === undefined ? [] : [addressFromBytes(bytes)]
  })
}

function groupByKind(ports: readonly PublishedPort[]): ReadonlyMap<string, readonly PublishedPort[]> {
  const groups = new Map<string, PublishedPort[]>()
  for (const port of ports) {
    const kind = `${port.address.family === 4 ? AF_INET : AF_INET6} ${IPPROTO[port.protocol]}`
    groups.set(kind, [...(groups.get(kind) ?? []), port])
  }
  return groups
}

function wentTo(entry: Conntrack, port: PublishedPort, hostAddresses: readonly IpAddress[]): boolean {
  const destination = entry.original?.protocol?.destinationPort ?? -1
  if (destination < port.hostPort || destination >= port.hostPort + port.count) return false
  if (leadsTo(entry, port.address)) return true
  const wanted = destinationOf(entry.original)
  // Not translated and not to the host: a connection of the host's own to somebody else's port of the same number.
  const translated = wanted !== undefined && Buffer.compare(wanted, sourceOf(entry.reply) ?? wanted) !== 0
  if (!translated && !hostAddresses.some((address) => sameAddress(wanted, address))) return false
  return port.hostAddress === undefined || sameAddress(wanted, port.hostAddress)
}

/** The answers' source is where the translation led. */
function leadsTo(entry: Conntrack, address: IpAddress): boolean {
  return sameAddress(sourceOf(entry.reply), address)
}

function sourceOf(tuple: Tuple | undefined): Uint8Array | undefined {
  return tuple?.ip?.v4Source ?? tuple?.ip?.v6Source
}

function destinationOf(tuple: Tuple | undefined): Uint8Array | undefined {
  return tuple?.ip?.v4Destination ?? tuple?.ip?.v6Destination
}

function sameAddress(bytes: Uint8Array | undefined, address: IpAddress): boolean {
  return bytes !== undefined && addressFromBytes(bytes).value === address.value
}
