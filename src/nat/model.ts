/** What the rules shall say, free of who writes them: networks to masquerade, ports to publish. Pure. */
import { containsAddress, type Family, formatAddress, type IpAddress, type IpPrefix, networkAddress } from '../wire/ip-address.ts'

export type Protocol = 'tcp' | 'udp' | 'sctp'

/** A host port, or a range of them, that leads to an address of a container. One family each. */
export interface PublishedPort {
  readonly protocol: Protocol
  /** The host's address that is listened on; absent means any of the family. */
  readonly hostAddress?: IpAddress
  readonly hostPort: number
  /** How many consecutive ports, at least 1. */
  readonly count: number
  /** The attachment's address; it says the family. */
  readonly address: IpAddress
  readonly containerPort: number
  /** Who alone may connect: disjoint prefixes of the family. Absent means everybody. */
  readonly allow?: readonly IpPrefix[]
}

/** One network's part of the rules. */
export interface NetworkRules {
  readonly bridge: string
  /** What its containers' addresses lie in; at most one of each family is usual. */
  readonly subnets: readonly IpPrefix[]
  /** Whether packets leave with the address of the link that they leave by, or with one of `snat`. */
  readonly masquerade: boolean
  /** The addresses that packets leave with instead, at most one of each family. */
  readonly snat: readonly IpAddress[]
  /** Whether its containers reach each other. */
  readonly icc: boolean
  /** Whether nothing passes between the bridge and other links. */
  readonly internal: boolean
  /** Who reaches all ports of its containers from other links. */
  readonly trusted: readonly IpPrefix[]
}

/** One attachment's part of the rules. */
export interface AttachmentRules {
  /** Marks the rules as this attachment's: letters, digits, `_ . - : /`, at most 200 bytes. */
  readonly owner: string
  readonly ports: readonly PublishedPort[]
  /** Whether its ports answer at its own address too, from other links. */
  readonly direct: boolean
}

/** @returns Whether two publications would fight for a packet. */
export function portsConflict(a: PublishedPort, b: PublishedPort): boolean {
  return (
    a.protocol === b.protocol &&
    a.address.family === b.address.family &&
    a.hostPort < b.hostPort + b.count &&
    b.hostPort < a.hostPort + a.count &&
    (a.hostAddress === undefined || b.hostAddress === undefined || a.hostAddress.value === b.hostAddress.value)
  )
}

/** @returns The prefixes without those that lie in another one, and with nothing in the host's part. */
export function disjointPrefixes(prefixes: readonly IpPrefix[]): readonly IpPrefix[] {
  const widestFirst = [...prefixes].sort((a, b) => a.prefixLength - b.prefixLength)
  const kept: IpPrefix[] = []
  for (const prefix of widestFirst) {
    const address = networkAddress(prefix)
    if (!kept.some((other) => other.address.family === address.family && containsAddress(other, address))) kept.push({ ...prefix, address })
  }
  return kept
}

/** @returns The ports that answer at the container's own address: one that is published on a loopback address is for the host alone. */
export function directPorts({ ports, direct }: AttachmentRules): readonly PublishedPort[] {
  return direct ? ports.filter(({ hostAddress }) => hostAddress === undefined || !isLoopback(hostAddress)) : []
}

/** @returns Whether two publications lead to the same port of a container. */
export function targetsOverlap(a: PublishedPort, b: PublishedPort): boolean {
  return (
    a.protocol === b.protocol &&
    a.address.family === b.address.family &&
    a.containerPort < b.containerPort + b.count &&
    b.containerPort < a.containerPort + a.count
  )
}

/** @returns Whether the address is in 127.0.0.0/8, or ::1. */
function isLoopback({ family, value }: IpAddress): boolean {
  return family === 4 ? value >> 24n === 127n : value === 1n
}

/** @returns `10.0.0.1:8080/tcp`, `[::]:8000-8010/udp`: the host side, for messages. */
export function formatHostPort(port: PublishedPort): string {
  const any = port.address.family === 4 ? '0.0.0.0' : '::'
  const host = port.hostAddress === undefined ? any : formatAddress(port.hostAddress)
  return `${port.address.family === 6 ? `[${host}]` : host}:${formatPortCount(port.hostPort, port.count)}/${port.protocol}`
}

/** @returns `8080`, `8000-8010`. */
export function formatPortCount(first: number, count: number): string {
  return count === 1 ? `${first}` : `${first}-${first + count - 1}`
}

/** @returns The families that have a subnet or a port. */
export function familiesOf(network: NetworkRules): readonly Family[] {
  return ([4, 6] as const).filter((family) => network.subnets.some((subnet) => subnet.address.family === family))
}
