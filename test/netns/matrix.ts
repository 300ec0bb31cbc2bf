/** Who reaches which published port, and whom the server hears: the tables are what is true, whoever writes the rules. */
import { ADDRESSES, DUAL_STACK } from './host.ts'

export type Family = 4 | 6

/**
 * A row is a published port, a column a client and the address that it asks:
 *   outside    a machine outside, by the host's address      itself     the container itself, by the host's address (hairpin)
 *   second     the same, by the host's second address        neighbour  a container on the same bridge, by the host's address
 *   host       the host, by its address                      gateway    the same, by the bridge's address
 *   loopback   the host, by 127.0.0.1 or ::1                 other      a container on another network, by the host's address
 * A cell says whom the server hears:
 *   client     the client's own address
 *   bridge     the bridge's address: the answer has to come back through the host, which alone knows the translation
 * or that nobody listens there (refused).
 */
const TABLES: Readonly<Record<Family, string>> = {
  4: `
                      outside   second    host      loopback  itself    neighbour gateway   other
    one port          client    client    client    bridge    bridge    bridge    bridge    client
    range             client    client    client    bridge    bridge    bridge    bridge    client
    shifted range     client    client    client    bridge    bridge    bridge    bridge    client
    0.0.0.0           client    client    client    bridge    bridge    bridge    bridge    client
    10.99.0.1         client    refused   client    refused   bridge    bridge    refused   client
    10.99.0.1, range  client    refused   client    refused   bridge    bridge    refused   client
    127.0.0.1         refused   refused   refused   bridge    refused   refused   refused   refused
    127.0.0.1, range  refused   refused   refused   bridge    refused   refused   refused   refused
    ::                refused   refused   refused   refused   refused   refused   refused   refused
    fd00:99::1        refused   refused   refused   refused   refused   refused   refused   refused
    fd00:99::1, range refused   refused   refused   refused   refused   refused   refused   refused
    ::1               refused   refused   refused   refused   refused   refused   refused   refused`,
  // The kernel routes no loopback address of IPv6: ::1 never leads to a container, and is refused rather than lost.
  6: `
                      outside   second    host      loopback  itself    neighbour gateway   other
    one port          client    client    client    refused   bridge    bridge    bridge    client
    range             client    client    client    refused   bridge    bridge    bridge    client
    shifted range     client    client    client    refused   bridge    bridge    bridge    client
    0.0.0.0           refused   refused   refused   refused   refused   refused   refused   refused
    10.99.0.1         refused   refused   refused   refused   refused   refused   refused   refused
    10.99.0.1, range  refused   refused   refused   refused   refused   refused   refused   refused
    127.0.0.1         refused   refused   refused   refused   refused   refused   refused   refused
    127.0.0.1, range  refused   refused   refused   refused   refused   refused   refused   refused
    ::                client    client    client    refused   bridge    bridge    bridge    client
    fd00:99::1        client    refused   client    refused   bridge    bridge    refused   client
    fd00:99::1, range client    refused   client    refused   bridge    bridge    refused   client
    ::1               refused   refused   refused   refused   refused   refused   refused   refused`,
}

/** The cells of a family that the network does not have: its containers have no route, and its bridge no address. */
const ABSENT = 'refused   refused   refused   refused   no route  no route  none      refused'

export const COLUMNS = ['outside', 'second', 'host', 'loopback', 'itself', 'neighbour', 'gateway', 'other'] as const
const NAME_WIDTH = 18
const CELL_WIDTH = 10

export interface Publication {
  readonly name: string
  /** The family of `hostIP`; absent when there is none. */
  readonly family?: Family
  readonly hostIP?: string
  readonly hostPort: number
  readonly containerPort: number
  readonly range?: number
}

/** The rows, each with host ports of its own. */
export const PUBLICATIONS: readonly Publication[] = [
  { name: 'one port', hostPort: 8000, containerPort: 80 },
  { name: 'range', hostPort: 8010, containerPort: 8010, range: 3 },
  { name: 'shifted range', hostPort: 8020, containerPort: 9020, range: 3 },
  { name: '0.0.0.0', family: 4, hostIP: '0.0.0.0', hostPort: 8030, containerPort: 80 },
  { name: '10.99.0.1', family: 4, hostIP: ADDRESSES[4].host, hostPort: 8040, containerPort: 80 },
  { name: '10.99.0.1, range', family: 4, hostIP: ADDRESSES[4].host, hostPort: 8050, containerPort: 8050, range: 3 },
  { name: '127.0.0.1', family: 4, hostIP: '127.0.0.1', hostPort: 8060, containerPort: 80 },
  { name: '127.0.0.1, range', family: 4, hostIP: '127.0.0.1', hostPort: 8070, containerPort: 9070, range: 3 },
  { name: '::', family: 6, hostIP: '::', hostPort: 8080, containerPort: 80 },
  { name: 'fd00:99::1', family: 6, hostIP: ADDRESSES[6].host, hostPort: 8090, containerPort: 80 },
  { name: 'fd00:99::1, range', family: 6, hostIP: ADDRESSES[6].host, hostPort: 8100, containerPort: 8100, range: 3 },
  { name: '::1', family: 6, hostIP: '::1', hostPort: 8110, containerPort: 80 },
]

export interface Stack {
  readonly name: string
  readonly families: readonly Family[]
  readonly conf: object
}

const stack = (name: string, families: readonly Family[], bridge: string, ...subnets: readonly string[]): Stack => ({
  name,
  families,
  conf: { ...DUAL_STACK, name: bridge, bridge, ipam: { ranges: subnets.map((subnet) => [{ subnet }]) } },
})

export const STACKS = [
  stack('IPv4', [4], 'br-four', '10.51.0.0/24'),
  stack('IPv6', [6], 'br-six', 'fd00:51::/64'),
  stack('dual stack', [4, 6], 'br-dual', '10.52.0.0/24', 'fd00:52::/64'),
]

/** @returns What a network publishes: a host address of a family that it lacks is refused. */
export function rowsOf(stack: Stack): readonly Publication[] {
  return PUBLICATIONS.filter(({ family }) => family === undefined || stack.families.includes(family))
}

/** @returns The table that is to be measured for a network and the addresses of one family. */
export function expectedTable(stack: Stack, family: Family): string {
  const lines = TABLES[family].split('\n').filter((line) => line !== '')
  const indent = lines.map((line) => line.slice(4))
  const cells = new Map(indent.map((line) => [line.slice(0, NAME_WIDTH).trim(), line.slice(NAME_WIDTH)]))
  const rows = rowsOf(stack).map(({ name }) => `${name.padEnd(NAME_WIDTH)}${stack.families.includes(family) ? cells.get(name) : ABSENT}`)
  return [indent[0], ...rows].join('\n')
}

/** @returns A line of a table. */
export function tableLine(name: string, cells: readonly string[]): string {
  return `${name.padEnd(NAME_WIDTH)}${cells.map((cell) => cell.padEnd(CELL_WIDTH)).join('')}`.trimEnd()
}
