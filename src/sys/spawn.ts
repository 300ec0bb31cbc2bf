/** Runs a program to its end by posix_spawn: node:child_process alone takes 3 ms to load (docs/decisions/0001). */
import { closeSync, readSync, writeSync } from 'node:fs'
import { isErrno } from '../error.ts'
import { kernelError, libc } from './libc.ts'
import { heldLocks } from './lock.ts'
import { openPipe } from './pipe.ts'
import { poll } from './poll.ts'
import { now, sleep } from './time.ts'
import { remainingMs, timeOver } from './time-limit.ts'

/** A pipe that is ready for writing takes this many bytes without blocking. @see pipe(7), PIPE_BUF */
const PIPE_BUF = 4096
/** sizeof(posix_spawn_file_actions_t) is 80 with glibc and with musl on 64 bit. */
const FILE_ACTIONS_SIZE = 128
// include/uapi/linux/wait.h
const WNOHANG = 1
// include/uapi/asm-generic/signal.h
const SIGKILL = 9
const SHORTEST_WAIT_MS = 0.05
const LONGEST_WAIT_MS = 10

const ENVIRONMENT = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' }

export interface Program {
  /** Absolute path of the executable. */
  readonly path: string
  readonly args: readonly string[]
  readonly stdin?: string
  /** Beside PATH and LC_ALL, which every program gets. */
  readonly env?: Readonly<Record<string, string>>
  /**
   * Whether it holds the locks of this thread until its own end, for one that changes what they guard: who is killed leaves
   * it behind. Not for one that may leave a daemon.
   */
  readonly inheritsLocks?: true
  /** Milliseconds after which the program is killed; sooner when the call's time limit is over. */
  readonly timeoutMs: number
}

export interface Outcome {
  /** Exit status; 128 + signal when a signal ended it. */
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

/** A program that runs: `finish()` waits for its end and must be called exactly once. */
export interface RunningProgram {
  /** @throws TsnetError TSNET_TIMEOUT when the program had to be killed */
  finish(): Outcome
}

/** Starts a program, feeds it `stdin`, and gathers what it prints. */
export function startProgram(program: Program): RunningProgram {
  const [input, output, problems] = [openPipe(), openPipe(), openPipe()]
  const actions = new Uint8Array(FILE_ACTIONS_SIZE)
  const pid = new Int32Array(1)
  libc.posix_spawn_file_actions_init(actions)
  libc.posix_spawn_file_actions_adddup2(actions, input.read, 0)
  libc.posix_spawn_file_actions_adddup2(actions, output.write, 1)
  libc.posix_spawn_file_actions_adddup2(actions, problems.write, 2)
  const locks = program.inheritsLocks === true ? heldLocks() : []
  const unused = Math.max(...locks) + 1
  for (const [i, fd] of locks.entries()) libc.posix_spawn_file_actions_adddup2(actions, fd, unused + i)
  const argv = [program.path, ...program.args, null]
  const env = Object.entries({ ...ENVIRONMENT, ...program.env }).map(([name, value]) => `${name}=${value}`)
  const code = libc.posix_spawn(pid, program.path, actions, null, argv, [...env, null])
  libc.posix_spawn_file_actions_destroy(actions)
  for (const fd of [input.read, output.write, problems.write]) closeSync(fd)
  if (code !== 0) {
    for (const fd of [input.write, output.read, problems.read]) closeSync(fd)
    throw kernelError(`run "${program.path}"`, code)
  }
  const running = { program, pid: pid[0] as number, output: output.read, problems: problems.read }
  // What fits into the pipe goes there now, so that the program works while the caller does something else.
  const pending = feed(input.write, Buffer.from(program.stdin ?? ''))
  return { finish: () => finish(running, pending) }
}

interface Running {
  readonly program: Program
  readonly pid: number
  readonly output: number
  readonly problems: number
}

/** Input that the program has yet to take. */
interface PendingInput {
  readonly fd: number
  readonly data: Buffer
}

function finish({ program, pid, output, problems }: Running, pending: PendingInput | undefined): Outcome {
  const outputs = new Map<number, Buffer[]>([
    [output, []],
    [problems, []],
  ])
  const text = (fd: number) => Buffer.concat(outputs.get(fd) ?? []).toString('utf8')
  const timeoutMs = Math.min(program.timeoutMs, remainingMs(program.timeoutMs))
  const deadline = now() + timeoutMs
  let status: number | undefined
  try {
    if (exchange(deadline, pending, outputs)) status = waitFor(pid, deadline)
  } finally {
    if (status === undefined) stop(pid)
    for (const fd of [output, problems]) closeSync(fd)
  }
  if (status === undefined) throw timeOver(`"${program.path}" ran for more than ${Math.round(timeoutMs)} ms and was stopped`)
  return { status, stdout: text(output), stderr: text(problems) }
}

/** Feeds and drains the pipes until the program has closed its outputs. @returns false when time ran out */
function exchange(deadline: number, pending: PendingInput | undefined, outputs: ReadonlyMap<number, Buffer[]>): boolean {
  const open = new Set(outputs.keys())
  const chunk = Buffer.allocUnsafe(65536)
  let input = pending
  try {
    while (open.size > 0) {
      const remaining = deadline - now()
      if (remaining <= 0) return false
      for (const fd of poll([...open], input?.fd, remaining)) {
        const length = fd === input?.fd ? undefined : readSync(fd, chunk)
        if (length === undefined) input = input && feed(input.fd, input.data)
        else if (length === 0) open.delete(fd)
        else outputs.get(fd)?.push(Buffer.from(chunk.subarray(0, length)))
      }
    }
    return true
  } finally {
    if (input !== undefined) closeSync(input.fd)
  }
}

/** Writes as long as the pipe takes a page without blocking. @returns What is left; nothing when all is written, and the pipe closed */
function feed(fd: number, data: Buffer): PendingInput | undefined {
  let rest = data
  try {
    while (rest.length > 0) {
      if (poll([], fd, 0).length === 0) return { fd, data: rest }
      rest = rest.subarray(writeSync(fd, rest, 0, Math.min(rest.length, PIPE_BUF)))
    }
  } catch (error) {
    // A program that no longer reads says why on its way out.
    if (!isErrno(error, 'EPIPE')) throw error
  }
  closeSync(fd)
  return undefined
}

/** Who has closed both outputs mostly ends at once. @returns The exit status, or undefined when time ran out */
function waitFor(pid: number, deadline: number): number | undefined {
  const status = new Int32Array(1)
  for (let wait = SHORTEST_WAIT_MS; libc.waitpid(pid, status, WNOHANG) !== pid; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
    if (now() >= deadline) return undefined
    sleep(wait)
  }
  const word = status[0] as number
  return (word & 0x7f) === 0 ? (word >> 8) & 0xff : 128 + (word & 0x7f)
}

function stop(pid: number): void {
  libc.kill(pid, SIGKILL)
  waitFor(pid, Number.POSITIVE_INFINITY)
}
