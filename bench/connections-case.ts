/** New connections through a published port, with one port published and with thousands of others. */
import { type Contender, REFERENCE_FOLDER, reference, tsnet } from './contender.ts'
import { type CaseOptions, container, type Row } from './series.ts'
import { HOST_ADDRESS, makeSideHost, type SideHost } from './side-host.ts'
import { connectionRate, listen } from './sockets.ts'
import { summarizeValues } from './statistics.ts'

const OTHERS = 5_000
const PORTS_EACH = 1_000
const FIRST_OTHER = 30_000
const PORT = 20_000
const SAMPLES = 21
const CONNECTIONS = 3_000
const QUICK_CONNECTIONS = 300
const AT_LEAST = 0.9

interface Site {
  readonly host: SideHost
  readonly listener: number
}

export function connectionsCase(options: CaseOptions): readonly Row[] {
  const ours = (name: string, others: number) =>
    site(name, options, others, (host) => tsnet(options.plugin, { config: { backend: 'nftables' }, execute: host.execute }))
  const theirs = (name: string, others: number) => site(name, options, others, (host) => reference({ network: name, execute: host.execute }))
  const sites = [ours('one', 0), ours('many', OTHERS), theirs('ref-one', 0), theirs('ref-many', OTHERS)]
  const rates: number[][] = sites.map(() => [])
  for (let i = 0; i <= SAMPLES; i++) {
    for (const [n, { host, listener }] of sites.entries()) {
      const rate = connectionRate(host.outside, listener, { address: HOST_ADDRESS, port: PORT }, options.quick ? QUICK_CONNECTIONS : CONNECTIONS)
      if (i > 0) rates[n]?.push(rate)
    }
    options.progress(`sample ${i} of ${SAMPLES}`)
  }
  const [one, many, referenceOne, referenceMany] = rates.map((values) => summarizeValues(values, 'more'))
  if (!one || !many || !referenceOne || !referenceMany) throw new Error('A series is missing')
  const others = OTHERS.toLocaleString('en')
  const row = (name: string, subject: typeof one, against: string, other: typeof one) => ({
    case: name,
    subject,
    against,
    other,
    ratio: subject.median / other.median,
  })
  return [
    { ...row(`New connections/s, nftables, ${others} others published`, many, 'no others', one), atLeast: AT_LEAST },
    row(`New connections/s, nftables, ${others} others published`, many, 'reference', referenceMany),
    row('New connections/s, nftables, no others', one, 'reference', referenceOne),
    row(`New connections/s, reference, ${others} others published`, referenceMany, 'no others', referenceOne),
  ]
}

/** A host whose last container answers at PORT. */
function site(name: string, { progress }: CaseOptions, others: number, contenderIn: (host: SideHost) => Contender): Site {
  const host = makeSideHost(name)
  const contender = contenderIn(host)
  if (contender.name === 'reference') standReference(host, contender, others)
  else {
    for (let i = 0; i < others / PORTS_EACH; i++) {
      contender.add({ ...container(`${name}-stands-${i}`, FIRST_OTHER + i * PORTS_EACH), ports: PORTS_EACH })
    }
  }
  progress(`${others} ports stand in "${name}"`)
  const target = container(`${name}-target`, PORT)
  contender.add(target)
  return { host, listener: listen(target.netns, 80) }
}

/**
 * portmap runs iptables three times and more for each port, which takes minutes for thousands. So it publishes one port, and its
 * rules for that are repeated for the others by iptables-restore: a chain for each container, and a jump into it.
 */
function standReference(host: SideHost, contender: Contender, others: number): void {
  if (others === 0) return
  contender.add(container(`${host.name}-pattern`, FIRST_OTHER))
  const saved = host.execute({ path: 'iptables-save', args: ['-t', 'nat'], env: PATH }).stdout.split('\n')
  const chain = saved.flatMap((line) => /^:(CNI-DN-\w+)/.exec(line)?.[1] ?? [])[0]
  if (chain === undefined) throw new Error(`${REFERENCE_FOLDER}/portmap made no chain CNI-DN-…`)
  const pattern = saved.filter((line) => line.startsWith('-A') && line.includes(chain))
  const copies = Array.from({ length: others - 1 }, (_, i) => ({ port: String(FIRST_OTHER + 1 + i), chain: `CNI-DN-${String(i).padStart(21, '0')}` }))
  const rules = copies.flatMap((copy) => pattern.map((line) => line.replaceAll(chain, copy.chain).replaceAll(String(FIRST_OTHER), copy.port)))
  const text = ['*nat', ...copies.map((copy) => `:${copy.chain} - [0:0]`), ...rules, 'COMMIT', ''].join('\n')
  host.execute({ path: 'iptables-restore', args: ['--noflush', '-w'], env: PATH, input: text })
}

const PATH = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }
