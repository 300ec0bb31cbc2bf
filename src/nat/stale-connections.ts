/** Tracked connections that would go on sending packets to a former owner of a published port. */
import { isErrno } from '../error.ts'
import { deleteConntrack, listConntrack, openConntrack } from '../netlink/conntrack.ts'
import { listAddresses, openRtnetlink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { AF_INET, AF_INET6 } from '../wire/address.ts'
import type { Conntrack, Tuple } from '../wire/conntrack.ts'
import { addressFromBytes, type IpAddress } from '../wire/ip-address.ts'
import type { PublishedPort } from './model.ts'

/** @see include/uapi/linux/in.h */
const IPPROTO_UDP = 17

/**
 * Deletes the UDP entries whose first packet went to one of the host ports, except those that lead to where it leads now.
 * A UDP client that goes on sending keeps its entry, and with it the old destination, alive for ever. The connections of
 * TCP and SCTP end by themselves, and the kernel takes 4 ms to walk its table: without a UDP port it is left alone.
 * @param keep `current` spares the connections of the ports' own addresses, `none` deletes them too
 * @returns How many were deleted
 */
export function forgetConnections(ports: readonly PublishedPort[], keep: 'current' | 'none'): number {
  const udp = ports.filter(({ protocol }) => protocol === 'udp')
  if (udp.length === 0) return 0
  using ct = openConntrack()
  const hostAddresses = addressesOfHost()
  let deleted = 0
  for (const family of [4, 6] as const) {
    const group = udp.filter(({ address }) => address.family === family)
    const kernelFamily = family === 4 ? AF_INET : AF_INET6
    for (const entry of group.length === 0 ? [] : list(ct, kernelFamily)) {
      const port = group.find((candidate) => wentTo(entry, candidate, hostAddresses))
      if (port === undefined || (keep === 'current' && leadsTo(entry, port.address))) continue
      if (deleteConntrack(ct, kernelFamily, entry)) deleted++
    }
  }
  return deleted
}

function list(ct: NetlinkSocket, family: number): readonly Conntrack[] {
  try {
    return listConntrack(ct, family, IPPROTO_UDP)
  } catch (error) {
    // A kernel without connection tracking over netlink keeps no such entries that NAT rules of ours could have made.
    if (isErrno(error, 'EOPNOTSUPP', 'EPROTONOSUPPORT', 'EINVAL')) return []
    throw error
  }
}

function addressesOfHost(): readonly IpAddress[] {
  using rt = openRtnetlink()
  return listAddresses(rt, 0).flatMap(({ local, address }) => {
    const bytes = local ?? address
    return bytes === undefined ? [] : [addressFromBytes(bytes)]
  })
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
