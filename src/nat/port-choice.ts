/** Host port 0: which ports may be chosen, and which of them is. */
import { CNI_CODE, TsnetError } from '../error.ts'
import { readSysctl } from '../sys/sysctl.ts'
import { formatPortCount, type PublishedPort } from './model.ts'

/** The dynamic ports of RFC 6335 section 6, for a host that names none. */
const DYNAMIC = { first: 49153, last: 65535 }

export interface Choice {
  readonly first: number
  readonly last: number
  /** Ports that an administrator keeps for servers of his own. */
  readonly isReserved: (port: number) => boolean
}

/** @see Documentation/networking/ip-sysctl.rst, ip_local_port_range (of IPv6 too) and ip_local_reserved_ports */
export function readChoice(): Choice {
  const [first = DYNAMIC.first, last = DYNAMIC.last] = readSysctl('net/ipv4/ip_local_port_range')?.split(/\s+/).map(Number) ?? []
  const reserved = parsePortList(readSysctl('net/ipv4/ip_local_reserved_ports') ?? '')
  return { first: Math.max(1, first), last, isReserved: (port) => reserved.some((range) => port >= range.first && port <= range.last) }
}

/** @param text As the kernel writes it: `8080,9100-9200`, or nothing. */
export function parsePortList(text: string): readonly { readonly first: number; readonly last: number }[] {
  return text.split(',').flatMap((part) => {
    const [, first, last = first] = /^\s*(\d+)(?:-(\d+))?\s*$/.exec(part) ?? []
    return first === undefined ? [] : [{ first: Number(first), last: Number(last) }]
  })
}

export interface Search {
  readonly choice: Choice
  /** How many ports in a row are wanted. */
  readonly count: number
  /** Where to begin, from 0 up to 1: random, so that a port that was just given back rests. */
  readonly start: number
  /** Whether tsnet itself has given the port away. */
  readonly isClaimed: (port: number) => boolean
  /** @returns The first port from `first` on that a process of the host has; asked only for what else is free. */
  readonly firstTaken: (first: number) => number | undefined
}

/** Walks once around the ring of ports. @returns The first of `count` free ports in a row, or undefined */
export function chooseHostPort({ choice, count, start, isClaimed, firstTaken }: Search): number | undefined {
  const size = choice.last - choice.first + 1
  const begin = Math.floor(start * size)
  let run = 0
  for (let i = 0; i < size + count - 1; i++) {
    const port = choice.first + ((begin + i) % size)
    if (port === choice.first) run = 0
    run = choice.isReserved(port) || isClaimed(port) ? 0 : run + 1
    if (run < count) continue
    const taken = firstTaken(port - count + 1)
    if (taken === undefined) return port - count + 1
    run = port - taken
  }
  return undefined
}

/** @throws TsnetError always, with CNI code 11: a port may come free */
export function nothingFree(port: PublishedPort, { first, last }: Choice): TsnetError {
  const wanted = port.count === 1 ? 'none' : `no ${port.count} in a row`
  return new TsnetError(
    'TSNET_NO_FREE_PORT',
    `Cannot choose a host port for container port ${formatPortCount(port.containerPort, port.count)}/${port.protocol}: ${wanted} from ${first} to ${last} is free`,
    { cniCode: CNI_CODE.tryAgain, hint: 'Name a host port, or widen net.ipv4.ip_local_port_range' },
  )
}
