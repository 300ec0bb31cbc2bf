/** Many calls with an agent: at once, one after the other on all cores, and what they cost in processor time. */
import { cpus } from 'node:os'
import { startAgent, warmUp } from './agent.ts'
import { type Contender, reference, tsnet } from './contender.ts'
import { settle } from './measure.ts'
import { type CaseOptions, container, type Row } from './series.ts'
import { summarizeValues } from './statistics.ts'
import { addTogether, deleteTogether } from './together.ts'

const BURST = 200
const QUICK_BURST = 20
/** One burst of the reference takes seconds. */
const BURST_ROUNDS = 5
const ROUND = 20
const SETTLE_MS = 300
const TARGETS = { burst: 0.1, rate: 10, cpu: 0.1 }

interface Party {
  readonly contender: Contender
  readonly firstPort: number
}

/** All ADDs are started at once: from the first exec to the last exit. */
export function burstCase(options: CaseOptions): readonly Row[] {
  startAgent(options.plugin)
  const parties = partiesOf(options)
  const count = options.quick ? QUICK_BURST : BURST
  const walls = series(parties, { count, callers: count, rounds: Math.min(BURST_ROUNDS, options.repetitions), options })
  return rowsOf(`${count} ADDs at once`, walls, { better: 'less', target: TARGETS.burst })
}

/** As many callers as cores, each with one ADD after the other. */
export function rateCase(options: CaseOptions): readonly Row[] {
  startAgent(options.plugin)
  const callers = cpus().length
  const walls = series(partiesOf(options), { count: ROUND, callers, rounds: options.repetitions, options })
  const rates = walls.map((values) => values.map((wall) => (ROUND * 1000) / wall))
  return rowsOf(`ADDs/s of ${callers} callers`, rates, { better: 'more', atLeast: TARGETS.rate })
}

/** Processor time of an ADD: of the programs that are executed, and of the agent and what it executes, over a round of them. */
export function cpuCase(options: CaseOptions): readonly Row[] {
  const agent = startAgent(options.plugin)
  const parties = partiesOf(options)
  const values: readonly number[][] = parties.map(() => [])
  for (let round = 0; round <= Math.ceil(options.repetitions / 2); round++) {
    for (const [n, { contender, firstPort }] of parties.entries()) {
      const subjects = Array.from({ length: ROUND }, (_, i) => container(`${contender.name}-${round}-${i}`, firstPort + i))
      const before = agent.cpu()
      const added = subjects.map((subject) => contender.add(subject))
      settle(SETTLE_MS)
      const share = contender.name === 'reference' ? 0 : agent.cpu() - before
      if (round > 0) values[n]?.push((added.reduce((sum, { cost }) => sum + cost.cpu, 0) + share) / ROUND)
      for (const [i, subject] of subjects.entries()) contender.del(subject, added[i]?.result)
    }
    options.progress(`round ${round}`)
  }
  return rowsOf('Processor time of an ADD, ms', values, { better: 'less', target: TARGETS.cpu })
}

/** With iptables, natively, and the reference; each has an attachment that stands, and the agent is warm. */
function partiesOf({ plugin }: CaseOptions): readonly Party[] {
  const native = { network: 'native', config: { backend: 'nftables', bridge: 'native0' } }
  const parties = [
    { contender: tsnet(plugin), firstPort: 20_000 },
    { contender: { ...tsnet(plugin, native), name: 'native' }, firstPort: 40_000 },
    { contender: reference(), firstPort: 30_000 },
  ]
  for (const [i, { contender }] of parties.entries()) contender.add(container(`${contender.name}-stands`, 60_000 + i))
  warmUp(parties.slice(0, 2).map(({ contender }) => contender))
  return parties
}

interface Load {
  /** ADDs of a round. */
  readonly count: number
  readonly callers: number
  readonly rounds: number
  readonly options: CaseOptions
}

/** @returns Milliseconds of each round, of each party. @throws Error when an ADD fails, or an address is handed out twice */
function series(parties: readonly Party[], { count, callers, rounds, options }: Load): readonly (readonly number[])[] {
  const values: readonly number[][] = parties.map(() => [])
  for (let round = 0; round <= rounds; round++) {
    for (const [n, { contender, firstPort }] of parties.entries()) {
      const subjects = Array.from({ length: count }, (_, i) => container(`${contender.name}-${round}-${i}`, firstPort + i))
      settle(SETTLE_MS)
      const { wall, results } = addTogether(contender, subjects, callers)
      if (round > 0) values[n]?.push(wall)
      if (contender.purge === undefined) deleteTogether(contender, subjects, results)
      else {
        contender.purge(subjects)
        contender.add(container(`${contender.name}-stands-${round}`, 60_000 + n))
      }
    }
    options.progress(`round ${round} of ${rounds}`)
  }
  return values
}

function rowsOf(
  name: string,
  [iptables, native, theirs]: readonly (readonly number[])[],
  { better, ...aim }: { readonly better: 'more' | 'less'; readonly target?: number; readonly atLeast?: number },
): readonly Row[] {
  const other = summarizeValues(theirs ?? [], better)
  return [iptables, native].map((values, i) => {
    const subject = summarizeValues(values ?? [], better)
    const backend = i === 0 ? 'iptables' : 'nftables'
    return { case: `${name}, agent, ${backend}`, subject, against: 'reference', other, ratio: subject.median / other.median, ...aim }
  })
}
