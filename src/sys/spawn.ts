/** Runs a program to its end by posix_spawn: node:child_process alone takes 3 ms to load (docs/decisions/0001). */
import { closeSync, readSync, writeSync } from 'node:fs'
import { constants } from 'node:os'
import { isErrno, TsnetError } from '../error.ts'
import { kernelError, libc } from './libc.ts'
import { openPipe } from './pipe.ts'
import { poll } from './poll.ts'
import { now } from './time.ts'

/** A pipe that is ready for writing takes this many bytes without blocking. @see pipe(7), PIPE_BUF */
const PIPE_BUF = 4096
/** sizeof(posix_spawn_file_actions_t) is 80 with glibc and with musl on 64 bit. */
const FILE_ACTIONS_SIZE = 128

const ENVIRONMENT = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' }

export interface Program {
  /** Absolute path of the executable. */
  readonly path: string
  readonly args: readonly string[]
  readonly stdin?: string
  /** Beside PATH and LC_ALL, which every program gets. */
  readonly env?: Readonly<Record<string, string>>
  /** Milliseconds after which the program is killed. */
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

function finish(running: Running, pending: PendingInput | undefined): Outcome {
  const { program, pid, output, problems } = running
  const outputs = new Map<number, Buffer[]>([
    [output, []],
    [problems, []],
  ])
  const text = (fd: number) => Buffer.concat(outputs.get(fd) ?? []).toString('utf8')
  let killed = true
  try {
    killed = !exchange(program.timeoutMs, pending, outputs)
  } finally {
    if (killed) libc.kill(pid, constants.signals.SIGKILL)
    for (const fd of [output, problems]) closeSync(fd)
  }
  const status = waitFor(pid)
  if (killed) {
    throw new TsnetError('TSNET_TIMEOUT', `Cannot wait for "${program.path}" any longer: it ran for more than ${program.timeoutMs} ms`, {
      cniCode: 11,
    })
  }
  return { status, stdout: text(output), stderr: text(problems) }
}

/** Feeds and drains the pipes until the program has closed its outputs. @returns false when time ran out */
function exchange(timeoutMs: number, pending: PendingInput | undefined, outputs: ReadonlyMap<number, Buffer[]>): boolean {
  const deadline = now() + timeoutMs
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

function waitFor(pid: number): number {
  const status = new Int32Array(1)
  while (libc.waitpid(pid, status, 0) < 0);
  const word = status[0] as number
  return (word & 0x7f) === 0 ? (word >> 8) & 0xff : 128 + (word & 0x7f)
}
