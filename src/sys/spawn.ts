/** Runs a program to its end by posix_spawn: node:child_process alone takes 3 ms to load (docs/decisions/0001). */
import { closeSync, readSync, writeSync } from 'node:fs'
import { constants } from 'node:os'
import { isErrno, TsnetError } from '../error.ts'
import { checked, kernelError, libc } from './libc.ts'

const O_CLOEXEC = 0o2000000
const POLLIN = 1
const POLLOUT = 4
/** A pipe that is ready for writing takes this many bytes without blocking. @see pipe(7), PIPE_BUF */
const PIPE_BUF = 4096
/** sizeof(posix_spawn_file_actions_t) is 80 with glibc and with musl on 64 bit. */
const FILE_ACTIONS_SIZE = 128

export interface Program {
  /** Absolute path of the executable. */
  readonly path: string
  readonly args: readonly string[]
  readonly stdin?: string
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
  finish(): Outcome
}

/** Starts a program with an empty environment but PATH, feeds it `stdin`, and gathers what it prints. */
export function startProgram(program: Program): RunningProgram {
  const [input, output, problems] = [pipe(), pipe(), pipe()]
  const actions = new Uint8Array(FILE_ACTIONS_SIZE)
  const pid = new Int32Array(1)
  libc.posix_spawn_file_actions_init(actions)
  libc.posix_spawn_file_actions_adddup2(actions, input.read, 0)
  libc.posix_spawn_file_actions_adddup2(actions, output.write, 1)
  libc.posix_spawn_file_actions_adddup2(actions, problems.write, 2)
  const argv = [program.path, ...program.args, null]
  const code = libc.posix_spawn(pid, program.path, actions, null, argv, ['PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL=C', null])
  libc.posix_spawn_file_actions_destroy(actions)
  for (const fd of [input.read, output.write, problems.write]) closeSync(fd)
  if (code !== 0) {
    for (const fd of [input.write, output.read, problems.read]) closeSync(fd)
    throw kernelError(`run "${program.path}"`, code)
  }
  return { finish: () => finish(program, pid[0] as number, { input: input.write, output: output.read, problems: problems.read }) }
}

/** @throws TsnetError TSNET_TIMEOUT when the program had to be killed */
export function runProgram(program: Program): Outcome {
  return startProgram(program).finish()
}

interface Ends {
  readonly input: number
  readonly output: number
  readonly problems: number
}

function finish(program: Program, pid: number, ends: Ends): Outcome {
  const outputs = new Map<number, Buffer[]>([
    [ends.output, []],
    [ends.problems, []],
  ])
  const text = (fd: number) => Buffer.concat(outputs.get(fd) ?? []).toString('utf8')
  let killed = false
  try {
    killed = !exchange(program, ends, outputs)
  } finally {
    if (killed) libc.kill(pid, constants.signals.SIGKILL)
    for (const fd of [ends.output, ends.problems]) closeSync(fd)
  }
  const status = waitFor(pid)
  if (killed)
    throw new TsnetError('TSNET_TIMEOUT', `Cannot wait for "${program.path}" any longer: it ran for more than ${program.timeoutMs} ms`, {
      cniCode: 11,
    })
  return { status, stdout: text(ends.output), stderr: text(ends.problems) }
}

/** Feeds and drains the pipes until the program has closed its outputs. @returns false when time ran out. */
function exchange(program: Program, ends: Ends, outputs: ReadonlyMap<number, Buffer[]>): boolean {
  const deadline = performance.now() + program.timeoutMs
  const open = new Set([ends.output, ends.problems])
  let pending: Buffer | undefined = Buffer.from(program.stdin ?? '')
  const chunk = Buffer.allocUnsafe(65536)
  try {
    while (open.size > 0) {
      if (pending?.length === 0) {
        closeSync(ends.input)
        pending = undefined
      }
      const remaining = deadline - performance.now()
      if (remaining <= 0) return false
      for (const fd of poll([...open], pending === undefined ? undefined : ends.input, remaining)) {
        if (fd === ends.input) pending = pending && writeSome(fd, pending)
        else {
          const length = readSync(fd, chunk)
          if (length === 0) open.delete(fd)
          else outputs.get(fd)?.push(Buffer.from(chunk.subarray(0, length)))
        }
      }
    }
    return true
  } finally {
    if (pending !== undefined) closeSync(ends.input)
  }
}

/** @returns What is left to write; nothing when the program no longer reads. */
function writeSome(fd: number, data: Buffer): Buffer {
  try {
    return data.subarray(writeSync(fd, data, 0, Math.min(data.length, PIPE_BUF)))
  } catch (error) {
    if (isErrno(error, 'EPIPE')) return data.subarray(data.length)
    throw error
  }
}

/** @returns The descriptors that are ready; `struct pollfd` is { int fd; short events; short revents }. */
function poll(readable: readonly number[], writable: number | undefined, timeoutMs: number): number[] {
  const fds = writable === undefined ? readable : [...readable, writable]
  const records = new DataView(new ArrayBuffer(8 * fds.length))
  for (const [i, fd] of fds.entries()) {
    records.setInt32(8 * i, fd, true)
    records.setInt16(8 * i + 4, fd === writable ? POLLOUT : POLLIN, true)
  }
  const bytes = new Uint8Array(records.buffer)
  if (libc.poll(bytes, fds.length, Math.ceil(timeoutMs)) < 0) return []
  return fds.filter((_, i) => records.getInt16(8 * i + 6, true) !== 0)
}

function waitFor(pid: number): number {
  const status = new Int32Array(1)
  while (libc.waitpid(pid, status, 0) < 0);
  const word = status[0] as number
  return (word & 0x7f) === 0 ? (word >> 8) & 0xff : 128 + (word & 0x7f)
}

function pipe(): { readonly read: number; readonly write: number } {
  const fds = new Int32Array(2)
  checked(libc.pipe2(fds, O_CLOEXEC), 'create a pipe')
  const [read, write] = fds as unknown as [number, number]
  return { read, write }
}
