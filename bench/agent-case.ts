/** The same calls with an agent in the host, against the reference chain and against one shot. */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { type Contender, reference, tsnet } from './contender.ts'
import { type Execution, execute, settle } from './measure.ts'
import { type CaseOptions, container, interleave, type Row, rowOf } from './series.ts'
import { summarizeValues } from './statistics.ts'

const SOCKET = '/run/tsnet/tsnet.sock'
const START_MS = 10_000
const WARM_UP = 20
const TARGETS = { add: 0.1, del: 0.2 }

const PAIRS = 10_000
const QUICK_PAIRS = 400
const MIB = 1024

/** Calls of a runtime that finds no agent. */
const inOneShot = (execution: Execution) => execute({ ...execution, env: { ...execution.env, TSNET_RUN_DIR: '/none' } })

export function agentCase(options: CaseOptions): readonly Row[] {
  startAgent(options)
  const native = { network: 'native', config: { backend: 'nftables', bridge: 'native0' } }
  const contenders: readonly Contender[] = [
    tsnet(options.plugin),
    { ...tsnet(options.plugin, native), name: 'native', firstPort: 40_000 },
    { ...tsnet(options.plugin, { network: 'shot', config: { bridge: 'shot0' }, execute: inOneShot }), name: 'shot', firstPort: 50_000 },
    { ...reference(), firstPort: 30_000 },
  ]
  for (const [i, contender] of contenders.entries()) contender.add(container(`${contender.name}-stands`, 60_000 + i))
  const warm = container('warm', 60_100)
  for (let i = 0; i < WARM_UP; i++) for (const contender of contenders.slice(0, 2)) contender.del(warm, contender.add(warm).result)
  const [ours, nft, shot, theirs] = interleave(contenders, { ...options, forget: false })
  if (!ours || !nft || !shot || !theirs) throw new Error('A series is missing')
  const against = { against: 'reference' }
  return [
    rowOf({ case: 'ADD through the agent', ...against, target: TARGETS.add }, ours.adds, theirs.adds),
    rowOf({ case: 'DEL through the agent', ...against, target: TARGETS.del }, ours.dels, theirs.dels),
    rowOf({ case: 'ADD through the agent, nftables', ...against, target: TARGETS.add }, nft.adds, theirs.adds),
    rowOf({ case: 'DEL through the agent, nftables', ...against, target: TARGETS.del }, nft.dels, theirs.dels),
    rowOf({ case: 'ADD through the agent', against: 'one shot' }, ours.adds, shot.adds),
    rowOf({ case: 'DEL through the agent', against: 'one shot' }, ours.dels, shot.dels),
  ]
}

/** Resident memory after half of the ADD/DEL pairs and after all of them: it must not grow. */
export function agentMemoryCase(options: CaseOptions): readonly Row[] {
  const pid = startAgent(options)
  const plugin = tsnet(options.plugin)
  plugin.add(container('stands', 20_000))
  const subject = container('subject', 20_001)
  const half = (options.quick ? QUICK_PAIRS : PAIRS) / 2
  const run = (from: number) => {
    for (let i = 0; i < half; i++) {
      plugin.del(subject, plugin.add(subject).result)
      if (i % 500 === 499) options.progress(`${from + i + 1} pairs, ${residentMiB(pid).toFixed(1)} MiB`)
    }
    return summarizeValues([residentMiB(pid)], 'less')
  }
  const [middle, end] = [run(0), run(half)]
  const count = (2 * half).toLocaleString('en')
  return [
    {
      case: `Agent's resident MiB after ${count} pairs`,
      subject: end,
      against: 'half of them',
      other: middle,
      ratio: end.median / middle.median,
      target: 1.02,
    },
  ]
}

/** @returns Its process id, which stays when it becomes another program. It ends with this host. */
function startAgent({ plugin }: CaseOptions): number {
  const agent = spawn(plugin, ['agent'], { stdio: ['ignore', 'ignore', 'inherit'], env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } })
  agent.unref()
  const { pid } = agent
  for (let waited = 0; !existsSync(SOCKET); waited += 10) {
    if (waited > START_MS || pid === undefined) throw new Error('The agent does not start')
    settle(10)
  }
  settle(200)
  return pid as number
}

function residentMiB(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / MIB
}
