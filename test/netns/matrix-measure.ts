/** Measures the tables of matrix.ts on a host, with real clients and servers. */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { ADDRESSES, addressIn, type CniDocument, type Container, type Host } from './host.ts'
import type { Place } from './machine.ts'
import { COLUMNS, expectedTable, type Family, type Publication, rowsOf, STACKS, type Stack, tableLine } from './matrix.ts'
import { assertNothingLeft } from './state.ts'
import type { TransportProtocol } from './talker.ts'

/** Everybody of the tables; the network under test comes and goes, the other one stays. */
interface Cast {
  readonly host: Host
  readonly web: Container
  readonly neighbour: Container
  readonly other: Container
  readonly otherResult: CniDocument
}

interface Attached {
  readonly stack: Stack
  readonly web: CniDocument
  readonly neighbour: CniDocument
}

/** Measures every cell for these protocols, with networks of one family and of both, and compares with the tables. */
export async function checkMatrix(host: Host, t: TestContext, protocols: readonly TransportProtocol[]): Promise<void> {
  // Else most refusals would come only after the kernel's pauses between them.
  host.sh('echo 0 > /proc/sys/net/ipv4/icmp_ratelimit; echo 0 > /proc/sys/net/ipv6/icmp/ratelimit')
  const [web, neighbour, other] = [host.container('web'), host.container('neighbour'), host.container('other')]
  const cast: Cast = { host, web, neighbour, other, otherResult: host.mustCni('ADD', { id: 'other', netns: other }) }
  await serve(web, protocols)
  for (const stack of STACKS) {
    const attached = await attach(cast, stack, protocols)
    for (const protocol of protocols) {
      for (const family of [4, 6] as const) {
        await t.test(`${protocol} over IPv${family}, a network with ${stack.name}`, async () => {
          assert.equal(await measure(cast, attached, { protocol, family }), expectedTable(stack, family))
        })
      }
    }
    await Promise.all(['web', 'neighbour'].map((id) => host.cniAsync('DEL', { id, conf: stack.conf })))
  }
  host.mustCni('DEL', { id: 'other' })
  assertNothingLeft(host)
}

async function attach({ host, web, neighbour }: Cast, stack: Stack, protocols: readonly TransportProtocol[]): Promise<Attached> {
  const portMappings = protocols.flatMap((protocol) => rowsOf(stack).map(({ name: _, family: __, ...row }) => ({ ...row, protocol })))
  const calls = [
    { id: 'web', netns: web, conf: stack.conf, runtimeConfig: { portMappings } },
    { id: 'neighbour', netns: neighbour, conf: stack.conf },
  ]
  const [first, second] = await Promise.all(calls.map((call) => host.cniAsync('ADD', call)))
  if (first?.status !== 0 || second?.status !== 0) throw new Error(`ADD failed: ${first?.stdout}${second?.stdout}`)
  return { stack, web: first.json, neighbour: second.json }
}

/** On the first and the last port of each row. */
async function serve(web: Container, protocols: readonly TransportProtocol[]): Promise<void> {
  const ports = new Set(STACKS.flatMap(rowsOf).flatMap((row) => offsets(row).map((offset) => row.containerPort + offset)))
  const addresses = ['0.0.0.0', '::']
  const endpoints = protocols.flatMap((protocol) => addresses.flatMap((address) => [...ports].map((port) => ({ protocol, address, port }))))
  await Promise.all(endpoints.map((endpoint) => web.talker.serve(endpoint, 'web')))
}

function offsets({ range = 1 }: Publication): readonly number[] {
  return range === 1 ? [0] : [0, range - 1]
}

interface Wanted {
  readonly protocol: TransportProtocol
  readonly family: Family
}

/** All cells at the same time. */
async function measure(cast: Cast, attached: Attached, wanted: Wanted): Promise<string> {
  const columns = columnsOf(cast, attached, wanted.family)
  const gateway = gatewayOf(attached.web, wanted.family)
  const rows = rowsOf(attached.stack).map(async (row) => {
    const cells = COLUMNS.map(async (column) => {
      const words = offsets(row).map((offset) => ask(columns[column], { row, offset, gateway, protocol: wanted.protocol }))
      return [...new Set(await Promise.all(words))].join('/')
    })
    return tableLine(row.name, await Promise.all(cells))
  })
  return [tableLine('', COLUMNS), ...(await Promise.all(rows))].join('\n')
}

interface Column {
  readonly from: Place
  /** What is asked; absent when the network has no such address. */
  readonly to: string | undefined
  readonly own: string | undefined
}

function columnsOf(cast: Cast, { web, neighbour }: Attached, family: Family): Readonly<Record<(typeof COLUMNS)[number], Column>> {
  const { host, second, outside, loopback } = ADDRESSES[family]
  return {
    outside: { from: cast.host.outside, to: host, own: outside },
    second: { from: cast.host.outside, to: second, own: outside },
    host: { from: cast.host, to: host, own: host },
    loopback: { from: cast.host, to: loopback, own: loopback },
    itself: { from: cast.web, to: host, own: ownOf(web, family) },
    neighbour: { from: cast.neighbour, to: host, own: ownOf(neighbour, family) },
    gateway: { from: cast.neighbour, to: gatewayOf(web, family), own: ownOf(neighbour, family) },
    other: { from: cast.other, to: host, own: addressIn(cast.otherResult, family) },
  }
}

interface Asked {
  readonly row: Publication
  readonly offset: number
  readonly gateway: string | undefined
  readonly protocol: TransportProtocol
}

/** @returns The word for a cell; what the tables do not know is told as it is. */
async function ask({ from, to, own }: Column, { row, offset, gateway, protocol }: Asked): Promise<string> {
  if (to === undefined) return 'none'
  try {
    const { name, port, peer } = await from.talker.ask({ protocol, address: to, port: row.hostPort + offset, connected: true })
    if (name !== 'web' || port !== row.containerPort + offset) return `${name}:${port}`
    return peer === own ? 'client' : peer === gateway ? 'bridge' : peer
  } catch (error) {
    const { message } = error as Error
    return message === 'ECONNREFUSED' ? 'refused' : message === 'ENETUNREACH' ? 'no route' : message
  }
}

function ipOf(result: CniDocument, family: Family) {
  return result.ips?.find(({ address }) => address.includes(':') === (family === 6))
}

function ownOf(result: CniDocument, family: Family): string | undefined {
  return ipOf(result, family)?.address.replace(/\/.*/, '')
}

function gatewayOf(result: CniDocument, family: Family): string | undefined {
  return ipOf(result, family)?.gateway
}
