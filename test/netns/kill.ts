/** Plugins that are killed at a chosen system call. */
import assert from 'node:assert/strict'
import type { CniCall, Host } from './host.ts'

/** What an ADD does to kernel and disk happens in these calls, of itself and of the iptables-restore that it runs. */
const CALLS = ['sendto', 'openat', 'write', 'rename', 'mkdir', 'unlink', 'ftruncate', 'flock', 'sendmsg', 'close', 'pwrite64']
const TRACED = CALLS.join(',')
const KILL_POINTS = 40

export interface Point {
  readonly syscall: string
  readonly when: number
}

/** Only from the first touch of the state folder on: before, node itself starts. @returns One point for each call, in their order */
export function pointsOf(host: Host, call: CniCall, command = 'ADD'): readonly Point[] {
  const { argv, env, input } = host.prepare(command, call)
  const log = '/run/strace.log'
  host.exec(['strace', '-f', '-o', log, '-e', `trace=${TRACED}`, '-s', '64', ...argv], { env, input })
  const lines = host.exec(['cat', log]).split('\n')
  const counts = new Map<string, number>()
  const main = lines[0]?.split(' ')[0]
  const points = lines.flatMap((line) => {
    const [, pid, syscall] = /^(\d+) +(\w+)\(/.exec(line) ?? []
    if (pid !== main || syscall === undefined) return []
    const when = (counts.get(syscall) ?? 0) + 1
    counts.set(syscall, when)
    return [{ syscall, when, line }]
  })
  const first = points.findIndex(({ line }) => line.includes('/run/tsnet'))
  assert.ok(first > 0, `the ${command} does not touch its state folder`)
  return points.slice(first).map(({ syscall, when }) => ({ syscall, when }))
}

/** @returns Whether the process was killed: counts may differ by a few from run to run. */
export function addKilledAt(host: Host, call: CniCall, point: Point): boolean {
  return isKilledAt(host, { command: 'ADD', call }, point)
}

/** @returns Whether the process was killed. */
export function isKilledAt(host: Host, { command, call }: { readonly command: string; readonly call: CniCall }, { syscall, when }: Point): boolean {
  const { argv, env, input } = host.prepare(command, call)
  const inject = `inject=${syscall}:signal=SIGKILL:when=${when}`
  const { status } = host.run(['strace', '-o', '/dev/null', '-e', `trace=${syscall}`, '-e', inject, ...argv], { env, input })
  return status !== 0
}

/** Spread evenly over the whole, the first and the last included. */
export function spread(points: readonly Point[], most = KILL_POINTS): readonly Point[] {
  const count = Math.min(most, points.length)
  return Array.from({ length: count }, (_, i) => points[Math.round((i * (points.length - 1)) / (count - 1))] as Point)
}
