/** What passes between a container and the outside, against the same veth and bridge made by hand, without a rule. */
import { tsnet } from './contender.ts'
import { run, settle } from './measure.ts'
import { ask, startServer } from './peers.ts'
import { type CaseOptions, container, type Row } from './series.ts'
import { HOST_ADDRESS, makeSideHost, OUTSIDE_ADDRESS } from './side-host.ts'
import { type Connection, connect, latency, listen, prepareForChunks, throughput } from './sockets.ts'
import { summarizeFastest } from './statistics.ts'

const PORT = 20_000
const AT_LEAST = 0.97
/** Many short ones in turn: whatever else the machine does hits all, and the fastest of them are free of it. */
const PROCESSES = { samples: 25, milliseconds: 150 }
const ONE_THREAD = { samples: 400, milliseconds: 8 }
const QUICK = { samples: 1, milliseconds: 20 }
const BACKENDS = ['nftables', 'iptables'] as const
const HAND = { subnet: '10.77.0.0/24', gateway: '10.77.0.1', address: '10.77.0.2' }

interface Site {
  readonly name: string
  /** Opened by the container; the server is outside. */
  readonly outward: Connection
  /** Opened from outside; the server is in the container. */
  readonly inward: Connection
  readonly ends: Ends
}

interface Measure {
  readonly title: string
  readonly better: 'more' | 'less'
  readonly take: (site: Site, milliseconds: number) => number
  readonly effort: { readonly samples: number; readonly milliseconds: number }
}

const PEER_PORT = 81
const SERVER_START_MS = 500
const OUTSIDE = { address: OUTSIDE_ADDRESS, port: PEER_PORT }

/** First between two processes, as applications are; then in one thread, where nothing but the way through the kernel counts. */
const MEASURES: readonly Measure[] = [
  { title: 'Gbit/s to the outside', better: 'more', take: ({ ends }, ms) => (8 * ask(ends.outside, ends, 'stream', ms)) / 1e9, effort: PROCESSES },
  {
    title: 'Gbit/s from the outside',
    better: 'more',
    take: ({ ends }, ms) => (8 * ask(ends.inside, OUTSIDE, 'stream', ms)) / 1e9,
    effort: PROCESSES,
  },
  { title: 'Requests/s to the outside', better: 'more', take: ({ ends }, ms) => ask(ends.inside, OUTSIDE, 'echo', ms), effort: PROCESSES },
  { title: 'Requests/s into a published port', better: 'more', take: ({ ends }, ms) => ask(ends.outside, ends, 'echo', ms), effort: PROCESSES },
  {
    title: 'One thread: Gbit/s to the outside',
    better: 'more',
    take: ({ outward }, ms) => throughput(outward.client, outward.server, ms),
    effort: ONE_THREAD,
  },
  {
    title: 'One thread: Gbit/s into a published port',
    better: 'more',
    take: ({ inward }, ms) => throughput(inward.client, inward.server, ms),
    effort: ONE_THREAD,
  },
  {
    title: 'One thread: Request to the outside, µs',
    better: 'less',
    take: ({ outward }, ms) => latency(outward.client, outward.server, ms),
    effort: ONE_THREAD,
  },
  {
    title: 'One thread: Request into a published port, µs',
    better: 'less',
    take: ({ inward }, ms) => latency(inward.client, inward.server, ms),
    effort: ONE_THREAD,
  },
]

export function throughputCase(options: CaseOptions): readonly Row[] {
  const sites = [...BACKENDS.map((backend) => attached(backend, options)), byHand('plain'), byHand('nat')]
  const values: number[][][] = MEASURES.map(() => sites.map(() => []))
  for (const [m, { title, take, effort }] of MEASURES.entries()) {
    options.progress(title)
    const { samples, milliseconds } = options.quick ? QUICK : effort
    for (let i = 0; i <= samples; i++) {
      for (const [n, site] of sites.entries()) {
        const value = take(site, milliseconds)
        if (i > 0) values[m]?.[n]?.push(value)
      }
    }
  }
  return MEASURES.flatMap(({ title, better }, m) => {
    const summaries = sites.map((_, n) => summarizeFastest(values[m]?.[n] ?? [], better))
    const other = summaries[BACKENDS.length]
    if (other === undefined) throw new Error('A series is missing')
    const rows = BACKENDS.flatMap((backend, n) => {
      const subject = summaries[n]
      if (subject === undefined) return []
      const ratio = subject.median / other.median
      // Of a time the target is the reciprocal of a rate's.
      return [
        {
          case: `${title}, ${backend}`,
          subject,
          against: 'by hand',
          other,
          ratio,
          ...(better === 'more' ? { atLeast: AT_LEAST } : { target: 1 / AT_LEAST }),
        },
      ]
    })
    const nat = summaries[BACKENDS.length + 1]
    if (nat === undefined) throw new Error('A series is missing')
    const toNat = BACKENDS.flatMap((backend, n) => {
      const subject = summaries[n]
      return subject === undefined
        ? []
        : [{ case: `${title}, ${backend}`, subject, against: 'by hand with NAT', other: nat, ratio: subject.median / nat.median }]
    })
    return [...rows, ...toNat]
  })
}

function attached(backend: (typeof BACKENDS)[number], { plugin }: CaseOptions): Site {
  const host = makeSideHost(`traffic-${backend}`)
  const subject = container(`traffic-${backend}`, PORT)
  tsnet(plugin, { config: { backend }, execute: host.execute }).add({ ...subject, ports: 2 })
  return connected(backend, { outside: host.outside, inside: subject.netns, address: HOST_ADDRESS, port: PORT, kernelPort: PORT + 1 })
}

/** With NAT: one rule that masquerades and one that publishes, the least that gives the traffic the same addresses. */
function byHand(kind: 'plain' | 'nat'): Site {
  const name = `hand-${kind}`
  const host = makeSideHost(name)
  const { netns: inside } = container(name)
  const ip = (...args: readonly string[]) => host.execute({ path: 'ip', args, env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } })
  ip('link', 'add', 'br0', 'type', 'bridge')
  ip('addr', 'add', `${HAND.gateway}/24`, 'dev', 'br0')
  ip('link', 'set', 'br0', 'up')
  ip('link', 'add', 'veth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
  ip('link', 'set', 'veth0', 'master', 'br0', 'up')
  host.execute({ path: '/bin/sh', args: ['-c', 'echo 1 >/proc/sys/net/ipv4/ip_forward'] })
  run('ip', '-n', name, 'addr', 'add', `${HAND.address}/24`, 'dev', 'eth0')
  run('ip', '-n', name, 'link', 'set', 'eth0', 'up')
  run('ip', '-n', name, 'route', 'add', 'default', 'via', HAND.gateway)
  run('ip', '-n', host.outside.replace('/run/netns/', ''), 'route', 'add', HAND.subnet, 'via', HOST_ADDRESS)
  if (kind === 'nat') {
    const rule = (...args: readonly string[]) =>
      host.execute({ path: 'iptables', args: ['-w', '-t', 'nat', ...args], env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } })
    rule('-A', 'POSTROUTING', '-s', HAND.subnet, '-o', 'uplink0', '-j', 'MASQUERADE')
    rule('-A', 'PREROUTING', '-i', 'uplink0', '-p', 'tcp', '--dport', String(PORT), '-j', 'DNAT', '--to-destination', `${HAND.address}:${PEER_PORT}`)
    rule('-A', 'PREROUTING', '-i', 'uplink0', '-p', 'tcp', '--dport', String(PORT + 1), '-j', 'DNAT', '--to-destination', `${HAND.address}:80`)
    return connected('by hand with NAT', { outside: host.outside, inside, address: HOST_ADDRESS, port: PORT, kernelPort: PORT + 1 })
  }
  return connected('by hand', { outside: host.outside, inside, address: HAND.address, port: PEER_PORT, kernelPort: 80 })
}

interface Ends {
  readonly outside: string
  readonly inside: string
  /** Where the container answers, seen from outside. */
  readonly address: string
  /** For the server process. */
  readonly port: number
  /** For the server in this thread. */
  readonly kernelPort: number
}

function connected(name: string, ends: Ends): Site {
  const { outside, inside, address, kernelPort } = ends
  const outward = connect(inside, listen(outside, 80), { address: OUTSIDE_ADDRESS, port: 80 })
  const inward = connect(outside, listen(inside, 80), { address, port: kernelPort })
  for (const connection of [outward, inward]) prepareForChunks(connection)
  for (const netns of [outside, inside]) startServer(netns, PEER_PORT)
  settle(SERVER_START_MS)
  return { name, outward, inward, ends }
}
