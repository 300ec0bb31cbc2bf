/** An agent in a throw-away host, and what it costs. */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import koffi from 'koffi'
import { openNetns, openOwnNetns, within } from '../src/sys/netns.ts'
import type { Contender } from './contender.ts'
import { type Execution, execute, type Outcome, settle } from './measure.ts'
import { container } from './series.ts'
import { type SideHost, sideEnvironment } from './side-host.ts'

const START_MS = 10_000
const WARM_MS = 200
/** ADD/DEL pairs, by which V8 has compiled what is hot. */
const WARM_UP = 100
const MIB = 1024
/** `sysconf(_SC_CLK_TCK)`, which is 100 on every Linux that node runs on. */
const TICK_MS = 10
/** @see include/linux/posix-timers_types.h: the clock of a whole process, by its id */
const CPUCLOCK_SCHED = 2
const SIZEOF_TIMESPEC = 16

const clockGettime = koffi.load(null).func('int clock_gettime(int clock, _Out_ uint8_t *time)') as (clock: number, time: Uint8Array) => number

export interface Agent {
  /** Stays when `tsnet agent` becomes another program. */
  readonly pid: number
  /** Processor time so far of all its threads and of the programs that it has run, milliseconds; the latter in steps of 10. */
  cpu(): number
  residentMiB(): number
}

/** Calls of a runtime that finds no agent. */
export const inOneShot = (execution: Execution): Outcome => execute({ ...execution, env: { ...execution.env, TSNET_RUN_DIR: '/none' } })

/** It ends with the host. @param host Where it lives; default: the throw-away host itself. */
export function startAgent(plugin: string, host?: SideHost): Agent {
  const more: Readonly<Record<string, string>> = host === undefined ? {} : sideEnvironment(host.name)
  using netns = host === undefined ? openOwnNetns() : openNetns(host.netns)
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...more }
  const agent = within(netns, () => spawn(plugin, ['agent'], { stdio: ['ignore', 'ignore', 'inherit'], env }))
  agent.unref()
  const { pid } = agent
  const socket = `${more['TSNET_RUN_DIR'] ?? '/run/tsnet'}/tsnet.sock`
  for (let waited = 0; !existsSync(socket); waited += 10) {
    if (waited > START_MS || pid === undefined) throw new Error('The agent does not start')
    settle(10)
  }
  settle(WARM_MS)
  if (pid === undefined) throw new Error('The agent does not start')
  return { pid, cpu: () => ownCpu(pid) + childrenCpu(pid), residentMiB: () => residentMiB(pid) }
}

/** An agent has long been running when it is asked: its first calls are not what is measured. */
export function warmUp(contenders: readonly Contender[]): void {
  const warm = container(`warm-${contenders.map(({ name }) => name).join('-')}`, 60_100)
  for (let i = 0; i < WARM_UP; i++) for (const contender of contenders) contender.del(warm, contender.add(warm).result)
}

function ownCpu(pid: number): number {
  const time = Buffer.alloc(SIZEOF_TIMESPEC)
  if (clockGettime((~pid << 3) | CPUCLOCK_SCHED, time) !== 0) throw new Error('Cannot read the processor time of the agent')
  return Number(time.readBigInt64LE(0)) * 1e3 + Number(time.readBigInt64LE(8)) / 1e6
}

/** `cutime` and `cstime` of proc_pid_stat(5), which follow the program's name in brackets. */
function childrenCpu(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? []
  return (Number(fields[13]) + Number(fields[14])) * TICK_MS
}

function residentMiB(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / MIB
}
