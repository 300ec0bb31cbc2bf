/**
 * Tracked connections that would outlive what they lead to: a former holder of an address or of a published port. Each is
 * judged by the host port and the address that it leads to, so that nobody else's is touched (docs/decisions/0010).
 */
import { isErrno } from '../error.ts'
import {
  type ConntrackSelector,
  deleteConntrack,
  deleteSelected,
  listConntrack,
  openConntrack,
  type TrackedConnection,
} from '../netlink/conntrack.ts'
import { listAddresses, openRtnetlink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { countConnections, readConnections } from '../sys/connection-table.ts'
import { AF_INET, AF_INET6 } from '../wire/address.ts'
import type { Tuple } from '../wire/conntrack.ts'
import { addressFromBytes, addressToBytes, containsAddress, formatAddress, type IpAddress, type IpPrefix, parseAddress } from '../wire/ip-address.ts'
import type { PublishedPort } from './model.ts'

/** @see include/uapi/linux/in.h */
const PROTOCOL_NUMBERS = { tcp: 6, udp: 17, sctp: 132 } as const
/** 127.0.0.0/8 is the host's own as a whole. */
const LOOPBACK_NET = 127
/** How many connections are decoded in the time in which the kernel walks its table once for a list. */
const DECODED_PER_WALK = 600
/** Up to so many connections, reading them in /proc costs half of a list or less, and mostly shows that there is nothing to do. */
const MOST_LOOKED_AT = 2000
const MOST_WALKED = 50_000

/**
 * Deletes every connection from or to the addresses, of any protocol: for when their container has gone, and before another gets
 * them. To be called when no rule leads there any more, since the next packet would make the connection again.
 */
export function forgetAddresses(addresses: readonly IpAddress[]): void {
  if (addresses.length === 0) return
  withTracking(
    (table) => addresses.some((address) => table.includes(`src=${inTable(address)} `)),
    (ct, tracked) => {
      const v4 = addresses.filter(({ family }) => family === 4)
      const byFilter = selectorsOf(v4).every((selector) => deleteSelected(ct, selector))
      forgetByList(ct, byFilter ? addresses.filter(({ family }) => family === 6) : addresses, tracked)
    },
  )
}

/**
 * The same for whole subnets, for when a network comes into being: addresses that are handed out later come clean from every holder
 * that tsnet knew, but somebody else's containers, or those whose records are lost, may have left connections behind. Not worth its
 * time on a host with very many of them: a walk over 20,000 takes 5 ms.
 */
export function forgetSubnets(subnets: readonly IpPrefix[]): void {
  if (countConnections() > MOST_WALKED) return
  const holds = (address: IpAddress) => subnets.some((subnet) => containsAddress(subnet, address))
  const leads = (tuple: Tuple | undefined) => {
    const bytes = sourceOf(tuple)
    return bytes !== undefined && holds(addressFromBytes(bytes))
  }
  withTracking(
    (table) => sourcesIn(table).some(holds),
    (ct) => forget(ct, listConntrack(ct), ({ original, reply }) => leads(original) || leads(reply)),
  )
}

/** What forgetAddresses() does for IPv6, and on kernels before 6.11. @param tracked How many connections there are, about */
export function forgetByList(ct: NetlinkSocket, addresses: readonly IpAddress[], tracked: number): void {
  const wanted = addresses.map(addressToBytes)
  const isWanted = (bytes: Uint8Array | undefined) => wanted.some((address) => isSame(bytes, address))
  const isWorth = (message: Buffer) => wanted.some((address) => message.includes(address as Buffer))
  const entries = list(ct, selectorsOf(addresses), tracked, isWorth)
  forget(ct, entries, ({ original, reply }) => isWanted(sourceOf(original)) || isWanted(sourceOf(reply)))
}

/** Deletes the connections that came by the ports, which are published no more, to their addresses; direct ones stay. */
export function forgetWithdrawn(ports: readonly PublishedPort[]): void {
  if (ports.length === 0) return
  withTracking(
    (table) => mentions(table, ports),
    (ct, tracked) => {
      const selectors = ports.map((port) => ({ ...selectorOf(port), reply: { ip: sourceIp(port.address) } }))
      const routes = ports.map((port) => ({ wants: destinationTest(port), address: addressToBytes(port.address) }))
      forget(ct, list(ct, selectors, tracked), (entry) =>
        routes.some(
          ({ wants, address }) => wants(entry) && isSame(sourceOf(entry.reply), address) && !isSame(destinationOf(entry.original), address),
        ),
      )
    },
  )
}

/**
 * Deletes the connections to the host's ports, just published, that lead elsewhere than the ports do now: a client that goes on
 * sending would keep one, and with it the old destination, alive for ever. TCP is left alone: a client that connects anew gets
 * a new entry from the kernel, and what is established with a process of the host is still that process's.
 * @see net/netfilter/nf_conntrack_proto_tcp.c, nf_conntrack_tcp_packet(), TCP_CONNTRACK_SYN_SENT
 */
export function forgetFormer(ports: readonly PublishedPort[]): void {
  const lasting = ports.filter(({ protocol }) => protocol !== 'tcp')
  if (lasting.length === 0) return
  withTracking(
    (table) => mentions(table, lasting),
    (ct, tracked) => {
      const entries = list(ct, lasting.map(selectorOf), tracked)
      const routes = lasting.map((port) => ({ wants: destinationTest(port), address: addressToBytes(port.address) }))
      const goneElsewhere = entries.filter((entry) => routes.some(({ wants, address }) => wants(entry) && !isSame(sourceOf(entry.reply), address)))
      if (goneElsewhere.length === 0) return
      const own = addressesOfHost()
      forget(ct, goneElsewhere, ({ original }) => isLocal(destinationOf(original), own))
    },
  )
}

/**
 * A kernel that tracks nothing, or does not tell, keeps no connection that rules of ours could have led anywhere.
 * @param mayConcern Whether the table that /proc shows has something for `act` to do.
 */
function withTracking(mayConcern: (table: string) => boolean, act: (ct: NetlinkSocket, tracked: number) => void): void {
  const tracked = countConnections()
  const table = tracked > 0 && tracked <= MOST_LOOKED_AT ? readConnections() : undefined
  if (tracked === 0 || (table !== undefined && !mayConcern(table))) return
  try {
    using ct = openConntrack()
    act(ct, tracked)
  } catch (error) {
    if (!isErrno(error, 'EOPNOTSUPP', 'EPROTONOSUPPORT', 'EINVAL')) throw error
  }
}

/** But for what goes to 224.0.0.0/24, which never leaves its link: each bridge that was there before has told 224.0.0.22 of its groups. */
function sourcesIn(table: string): readonly IpAddress[] {
  const texts = new Set(Array.from(table.matchAll(/ src=(\S+) dst=(?!224\.0\.0\.)/g), ([, text]) => text ?? ''))
  return [...texts].flatMap((text) => parseAddress(text) ?? [])
}

/** The first packet's destination port, or the answers': the table does not say more clearly which is which. */
function mentions(table: string, ports: readonly PublishedPort[]): boolean {
  const numbers = new Set(Array.from(table.matchAll(/ dport=(\d+) /g), ([, port]) => Number(port)))
  return [...numbers].some((number) => ports.some(({ hostPort, count }) => number >= hostPort && number < hostPort + count))
}

/** All groups of an IPv6 address with all their digits. */
function inTable(address: IpAddress): string {
  if (address.family === 4) return formatAddress(address)
  return Buffer.from(addressToBytes(address))
    .toString('hex')
    .replace(/(.{4})(?=.)/g, '$1:')
}

/** From the address, and to it: directly or by a translation, the answers' source is the same. IPv6 addresses the kernel does not tell apart. */
function selectorsOf(addresses: readonly IpAddress[]): readonly ConntrackSelector[] {
  return addresses.flatMap((address): readonly ConntrackSelector[] => {
    const tuple = { ip: sourceIp(address) }
    if (address.family === 6) return [{ family: AF_INET6 }]
    return [
      { family: AF_INET, original: tuple },
      { family: AF_INET, reply: tuple },
    ]
  })
}

/** A walk of the kernel's for each selector, or one for all of which everything is decoded here: what costs less. */
function list(ct: NetlinkSocket, selectors: readonly ConntrackSelector[], tracked: number, isWorth?: (message: Buffer) => boolean) {
  const distinct = [...new Map(selectors.map((selector) => [JSON.stringify(selector), selector])).values()]
  if (tracked < (distinct.length - 1) * DECODED_PER_WALK) return listConntrack(ct, undefined, isWorth)
  return distinct.flatMap((selector) => listConntrack(ct, selector, isWorth))
}

function forget(ct: NetlinkSocket, entries: readonly TrackedConnection[], isStale: (entry: TrackedConnection) => boolean): void {
  for (const entry of entries) if (isStale(entry)) deleteConntrack(ct, entry)
}

/** By what the kernel may narrow the list down; of a range it knows nothing. */
function selectorOf({ protocol, hostAddress, hostPort, count, address }: PublishedPort): ConntrackSelector {
  const number = PROTOCOL_NUMBERS[protocol]
  return {
    family: familyNumber(address),
    original: {
      ...(hostAddress && { ip: destinationIp(hostAddress) }),
      protocol: count === 1 ? { number, destinationPort: hostPort } : { number },
    },
  }
}

/** @returns Whether the first packet of a connection went to the host's side of the port. */
function destinationTest({ protocol, hostAddress, hostPort, count, address }: PublishedPort): (entry: TrackedConnection) => boolean {
  const number = PROTOCOL_NUMBERS[protocol]
  const family = familyNumber(address)
  const host = hostAddress && addressToBytes(hostAddress)
  return (entry) => {
    const { number: given, destinationPort = -1 } = entry.original?.protocol ?? {}
    return (
      given === number &&
      entry.family === family &&
      destinationPort >= hostPort &&
      destinationPort < hostPort + count &&
      (host === undefined || isSame(destinationOf(entry.original), host))
    )
  }
}

function addressesOfHost(): readonly Uint8Array[] {
  using rt = openRtnetlink()
  return listAddresses(rt, 0).flatMap(({ local, address }) => local ?? address ?? [])
}

function isLocal(bytes: Uint8Array | undefined, own: readonly Uint8Array[]): boolean {
  return (bytes?.length === 4 && bytes[0] === LOOPBACK_NET) || own.some((address) => isSame(bytes, address))
}

function familyNumber({ family }: IpAddress): number {
  return family === 4 ? AF_INET : AF_INET6
}

function sourceIp(address: IpAddress): NonNullable<Tuple['ip']> {
  const bytes = addressToBytes(address)
  return address.family === 4 ? { v4Source: bytes } : { v6Source: bytes }
}

function destinationIp(address: IpAddress): NonNullable<Tuple['ip']> {
  const bytes = addressToBytes(address)
  return address.family === 4 ? { v4Destination: bytes } : { v6Destination: bytes }
}

/** The answers' source is where the translation led. */
function sourceOf(tuple: Tuple | undefined): Uint8Array | undefined {
  return tuple?.ip?.v4Source ?? tuple?.ip?.v6Source
}

function destinationOf(tuple: Tuple | undefined): Uint8Array | undefined {
  return tuple?.ip?.v4Destination ?? tuple?.ip?.v6Destination
}

function isSame(bytes: Uint8Array | undefined, address: Uint8Array): boolean {
  return bytes !== undefined && Buffer.compare(bytes, address) === 0
}
