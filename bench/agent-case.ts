/** The same calls with an agent in the host, against the reference chain and against one shot. */
import { inOneShot, startAgent, warmUp } from './agent.ts'
import { type Contender, reference, tsnet } from './contender.ts'
import { prepareFloor } from './floor.ts'
import { type CaseOptions, container, interleave, type Row, rowOf } from './series.ts'
import { type Summary, summarize, summarizeValues } from './statistics.ts'

const TARGETS = { add: 0.1, del: 0.2 }
const SHOT_TARGETS = { add: 0.65, del: 0.45 }
/** An ADD through the agent may take twice what the kernel takes, and this many milliseconds. */
const BEYOND_FLOOR = 1.5

const PAIRS = 10_000
/** 70 MB in MiB. */
const MOST_RESIDENT = 70e6 / 2 ** 20
const QUICK_PAIRS = 400

export function agentCase(options: CaseOptions): readonly Row[] {
  startAgent(options.plugin)
  const native = { network: 'native', config: { backend: 'nftables', bridge: 'native0' } }
  const contenders: readonly Contender[] = [
    tsnet(options.plugin),
    { ...tsnet(options.plugin, native), name: 'native', firstPort: 40_000 },
    { ...tsnet(options.plugin, { network: 'shot', config: { bridge: 'shot0' }, execute: inOneShot }), name: 'shot', firstPort: 50_000 },
    {
      ...tsnet(options.plugin, { network: 'alone', config: { backend: 'nftables', bridge: 'alone0' }, execute: inOneShot }),
      name: 'alone',
      firstPort: 55_000,
    },
    { ...reference(), firstPort: 30_000 },
  ]
  for (const [i, contender] of contenders.entries()) contender.add(container(`${contender.name}-stands`, 60_000 + i))
  const floor = prepareFloor(options)
  warmUp(contenders.slice(0, 2))
  const [ours, nft, shot, nftShot, theirs, kernel] = interleave(floor === undefined ? contenders : [...contenders, floor], {
    ...options,
    forget: false,
  })
  if (!ours || !nft || !shot || !nftShot || !theirs) throw new Error('A series is missing')
  const against = { against: 'reference' }
  return [
    rowOf({ case: 'ADD through the agent', ...against, target: TARGETS.add }, ours.adds, theirs.adds),
    rowOf({ case: 'DEL through the agent', ...against, target: TARGETS.del }, ours.dels, theirs.dels),
    rowOf({ case: 'ADD through the agent, nftables', ...against, target: TARGETS.add }, nft.adds, theirs.adds),
    rowOf({ case: 'DEL through the agent, nftables', ...against, target: TARGETS.del }, nft.dels, theirs.dels),
    rowOf({ case: 'ADD in one shot', ...against, target: SHOT_TARGETS.add }, shot.adds, theirs.adds),
    rowOf({ case: 'DEL in one shot', ...against, target: SHOT_TARGETS.del }, shot.dels, theirs.dels),
    rowOf({ case: 'ADD in one shot, nftables', ...against, target: SHOT_TARGETS.add }, nftShot.adds, theirs.adds),
    rowOf({ case: 'DEL in one shot, nftables', ...against, target: SHOT_TARGETS.del }, nftShot.dels, theirs.dels),
    rowOf({ case: 'ADD through the agent', against: 'one shot' }, ours.adds, shot.adds),
    rowOf({ case: 'DEL through the agent', against: 'one shot' }, ours.dels, shot.dels),
    ...(kernel === undefined ? [] : floorRows(summarize(nft.adds), summarize(kernel.adds))),
  ]
}

/** What the kernel alone takes for the objects of an ADD, in a program that does nothing else. */
function floorRows(subject: Summary, kernel: Summary): readonly Row[] {
  const allowed = { median: 2 * kernel.median + BEYOND_FLOOR, p95: 2 * kernel.p95 + BEYOND_FLOOR, repetitions: kernel.repetitions }
  const row = { case: 'ADD through the agent, nftables', subject }
  return [
    { ...row, against: 'floor: C program', other: kernel, ratio: subject.median / kernel.median },
    { ...row, against: `2 × floor + ${BEYOND_FLOOR} ms`, other: allowed, ratio: subject.median / allowed.median, target: 1 },
  ]
}

/** Resident memory after half of the ADD/DEL pairs and after all of them: it must not grow. */
export function agentMemoryCase(options: CaseOptions): readonly Row[] {
  const agent = startAgent(options.plugin)
  const plugin = tsnet(options.plugin)
  plugin.add(container('stands', 20_000))
  const subject = container('subject', 20_001)
  const half = (options.quick ? QUICK_PAIRS : PAIRS) / 2
  const run = (from: number) => {
    for (let i = 0; i < half; i++) {
      plugin.del(subject, plugin.add(subject).result)
      if (i % 500 === 499) options.progress(`${from + i + 1} pairs, ${agent.residentMiB().toFixed(1)} MiB`)
    }
    return summarizeValues([agent.residentMiB()], 'less')
  }
  const [middle, end] = [run(0), run(half)]
  const count = (2 * half).toLocaleString('en')
  const most = summarizeValues([MOST_RESIDENT], 'less')
  return [
    {
      case: `Agent's resident MiB after ${count} pairs`,
      subject: end,
      against: 'half of them',
      other: middle,
      ratio: end.median / middle.median,
      target: 1.02,
    },
    { case: `Agent's resident MiB after ${count} pairs`, subject: end, against: '70 MB', other: most, ratio: end.median / most.median, target: 1 },
  ]
}
