/** Times programs from outside: wall clock and processor time of one exec, with what it started. */
import { spawnSync } from 'node:child_process'
import koffi from 'koffi'

/** @see getrusage(2) */
const RUSAGE_CHILDREN = -1
const SIZEOF_RUSAGE = 144
const TIMEOUT_MS = 60_000

const getrusage = koffi.load(null).func('int getrusage(int who, _Out_ uint8_t *usage)') as (who: number, usage: Uint8Array) => number

export interface Execution {
  readonly path: string
  readonly args?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
  /** Milliseconds; default 60,000. */
  readonly timeout?: number
}

export interface Cost {
  /** Wall clock, milliseconds. */
  readonly wall: number
  /** User and system time of the program and all that it waited for, milliseconds. */
  readonly cpu: number
}

export interface Outcome extends Cost {
  readonly stdout: string
}

/** Runs a program to its end. @throws Error with what it printed, when its status is not 0 */
export function execute({ path, args = [], env = {}, input = '', timeout = TIMEOUT_MS }: Execution): Outcome {
  const cpuBefore = childrenCpu()
  const before = process.hrtime.bigint()
  const { status, signal, error, stdout, stderr } = spawnSync(path, args, { env, input, encoding: 'utf8', timeout })
  const wall = Number(process.hrtime.bigint() - before) / 1e6
  if (status === 0) return { wall, cpu: childrenCpu() - cpuBefore, stdout }
  const reason = error?.message ?? signal ?? `status ${status}`
  throw new Error(`${path} ${env['CNI_COMMAND'] ?? args.join(' ')}: ${reason}: ${stderr.trim()} ${stdout.trim()}`)
}

/** Runs a program of the system, such as `ip`. */
export function run(path: string, ...args: readonly string[]): string {
  return execute({ path, args, env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } }).stdout
}

export function sum(costs: readonly Cost[]): Cost {
  return costs.reduce((total, { wall, cpu }) => ({ wall: total.wall + wall, cpu: total.cpu + cpu }))
}

/** @returns What the measuring itself costs: one exec of /bin/true. */
export function measureFloor(repetitions: number): readonly Cost[] {
  for (let i = 0; i < 10; i++) execute({ path: '/bin/true' })
  return Array.from({ length: repetitions }, () => execute({ path: '/bin/true' }))
}

/** Lets the kernel finish what one sample left to its workers, so that it is not charged to the next. */
export function settle(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}

/** `struct rusage` begins with two `struct timeval`: user and system time, seconds and microseconds as 64-bit numbers. */
function childrenCpu(): number {
  const usage = Buffer.alloc(SIZEOF_RUSAGE)
  if (getrusage(RUSAGE_CHILDREN, usage) !== 0) throw new Error('Cannot read the processor time of children')
  const [userSeconds, userMicros, systemSeconds, systemMicros] = [0, 8, 16, 24].map((offset) => Number(usage.readBigInt64LE(offset))) as [
    number,
    number,
    number,
    number,
  ]
  return (userSeconds + systemSeconds) * 1000 + (userMicros + systemMicros) / 1000
}
