/**
 * Ports that processes of the host have. Each is asked for with a real bind, which alone knows all that can be in its way. A
 * bind costs 6 µs, and the tables of a protocol 3 ms, since the kernel walks all of its hash: so of a long range only those
 * ports are asked for at which the tables, read once, show somebody. What the tables lack, a TCP socket that is bound and does
 * not listen yet, passes there.
 */
import { CNI_CODE, TsnetError } from '../error.ts'
import { tryBind } from '../sys/bind.ts'
import { findSocketHolder, hasSctp, listSockets, type SocketEntry, type SocketHolder } from '../sys/socket-table.ts'
import { addressFromBytes, addressToBytes, formatAddress, type IpAddress } from '../wire/ip-address.ts'
import { formatHostPort, type Protocol, type PublishedPort } from './model.ts'

/** Beyond this, in each of two families, the tables cost less. */
const MOST_BINDS = 256
const LAST_PORT = 65535

export interface HostPortsOptions {
  /** A container's engine may hold its ports while its network is made: conmon, which podman starts, does. */
  readonly containerID: string
  /** Addresses that the host gets with this attachment, if it lacks them: the network's gateways. */
  readonly coming: readonly IpAddress[]
}

/** What the host's processes have, asked in the current network namespace. */
export interface HostPorts {
  /**
   * @returns The first port of the range that a process has, or undefined.
   * @throws TsnetError with CNI code 7 when the host has no such address
   */
  firstTaken(port: PublishedPort): number | undefined
  /** @returns The refusal of `port`, naming the process where it can be found. @param taken What firstTaken() returned. */
  refusal(port: PublishedPort, taken: number): TsnetError
}

/** What it reads of the tables it remembers: to be opened for one claim. */
export function openHostPorts(options: HostPortsOptions): HostPorts {
  const tables = new Map<Protocol, readonly number[]>()
  const busyPorts = (protocol: Protocol) => {
    const ports = tables.get(protocol) ?? [...new Set(listSockets(protocol, 1, LAST_PORT).map(({ port }) => port))].sort((a, b) => a - b)
    tables.set(protocol, ports)
    return ports
  }
  return {
    firstTaken: (port) => portsToAsk(port, busyPorts).find((number) => isTaken(port, number, options)),
    refusal,
  }
}

/** The first is always asked for, since it also tells whether the address is the host's. */
function portsToAsk({ protocol, hostPort, count }: PublishedPort, busyPorts: (protocol: Protocol) => readonly number[]): readonly number[] {
  if (protocol === 'sctp' && !hasSctp()) return []
  if (count <= MOST_BINDS) return Array.from({ length: count }, (_, i) => hostPort + i)
  return [hostPort, ...busyPorts(protocol).filter((port) => port > hostPort && port < hostPort + count)]
}

function isTaken(port: PublishedPort, number: number, { containerID, coming }: HostPortsOptions): boolean {
  const { protocol, hostAddress } = port
  const binding = tryBind({ protocol, address: listenBytes(port), port: number })
  if (binding === 'free') return false
  if (binding === 'foreign' && !coming.some((address) => isSame(address, hostAddress))) throw notOurs(port)
  const sockets = socketsAt(port, number)
  if (binding !== 'taken') return sockets.some(({ state }) => state === 'open')
  // A server that closed connections, and did not ask for SO_REUSEADDR, refuses it to others for a minute; nobody listens there.
  if (protocol === 'tcp' && sockets.length > 0 && sockets.every(({ state }) => state === 'closing')) return false
  return !isKeptFor(containerID, findSocketHolder(sockets.map(({ inode }) => inode)))
}

/** podman binds a container's ports and leaves the sockets to the container's conmon, also while `podman network reload` runs. */
function isKeptFor(containerID: string, holder: SocketHolder | undefined): boolean {
  return holder?.name === 'conmon' && holder.argv.includes(containerID)
}

/** The sockets that a bind could have met. */
function socketsAt(port: PublishedPort, number: number): readonly SocketEntry[] {
  const wanted = listenAddress(port)
  return listSockets(port.protocol, number, number).filter((socket) => {
    const bound = addressFromBytes(socket.address)
    // Whether a socket on :: takes IPv4 too is not told; one on ::ffff:192.0.2.1 does nothing else.
    if (bound.family === wanted.family) return bound.value === 0n || wanted.value === 0n || bound.value === wanted.value
    const mapped = bound.value >> 32n === 0xffffn ? bound.value & 0xffffffffn : undefined
    return wanted.family === 4 && (bound.value === 0n || (mapped !== undefined && (wanted.value === 0n || mapped === wanted.value)))
  })
}

/** Every ADD with a port comes by here: all addresses are had without arithmetic. */
function listenBytes({ hostAddress, address }: PublishedPort): Uint8Array {
  return hostAddress === undefined ? new Uint8Array(address.family === 4 ? 4 : 16) : addressToBytes(hostAddress)
}

function listenAddress({ hostAddress, address }: PublishedPort): IpAddress {
  return hostAddress ?? { family: address.family, value: 0n }
}

function isSame(a: IpAddress, b: IpAddress | undefined): boolean {
  return a.family === b?.family && a.value === b.value
}

function refusal(port: PublishedPort, taken: number): TsnetError {
  const holder = findSocketHolder(socketsAt(port, taken).map(({ inode }) => inode))
  const what = port.count === 1 ? 'it' : `port ${taken}`
  return new TsnetError('TSNET_PORT_TAKEN', `Cannot publish ${formatHostPort(port)}: a process on the host has ${what}`, {
    cniCode: CNI_CODE.hostPortTaken,
    ...(holder && { details: `It is "${holder.name.replaceAll('"', '?')}", process ${holder.pid}` }),
    hint: 'Publish another host port, or stop that process',
  })
}

function notOurs(port: PublishedPort): TsnetError {
  const address = formatAddress(listenAddress(port))
  return new TsnetError('TSNET_CONFIG', `Cannot publish ${formatHostPort(port)}: the host has no address ${address}`, {
    cniCode: CNI_CODE.invalidConfig,
    hint: `Publish an address of this host; net.ipv${port.address.family}.ip_nonlocal_bind=1 allows others`,
  })
}
