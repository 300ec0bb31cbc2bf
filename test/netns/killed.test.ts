import assert from 'node:assert/strict'
import { type CniCall, DUAL_STACK, type Host, hostTest } from './host.ts'
import { assertNothingLeft, assertSame, snapshot } from './state.ts'

/** What an ADD does to kernel and disk happens in these calls, of itself and of the iptables-restore that it runs. */
const CALLS = ['sendto', 'openat', 'write', 'rename', 'mkdir', 'unlink', 'ftruncate', 'flock', 'sendmsg', 'close', 'pwrite64']
const TRACED = CALLS.join(',')
const KILL_POINTS = 40

/** With everything that an ADD may make. */
const conf = { ...DUAL_STACK, macspoofchk: true }
const runtimeConfig = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] }

interface Point {
  readonly syscall: string
  readonly when: number
}

/** Only from the first touch of the state folder on: before, node itself starts. @returns One point for each call, in their order */
function pointsOf(host: Host, call: CniCall): readonly Point[] {
  const { argv, env, input } = host.prepare('ADD', call)
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
  assert.ok(first > 0, 'the ADD does not touch its state folder')
  return points.slice(first).map(({ syscall, when }) => ({ syscall, when }))
}

/** @returns Whether the process was killed: counts may differ by a few from run to run. */
function addKilledAt(host: Host, call: CniCall, { syscall, when }: Point): boolean {
  const { argv, env, input } = host.prepare('ADD', call)
  const inject = `inject=${syscall}:signal=SIGKILL:when=${when}`
  const { status } = host.run(['strace', '-o', '/dev/null', '-e', `trace=${syscall}`, '-e', inject, ...argv], { env, input })
  return status !== 0
}

/** Spread evenly over the whole, the first and the last included. */
function spread(points: readonly Point[]): readonly Point[] {
  const count = Math.min(KILL_POINTS, points.length)
  return Array.from({ length: count }, (_, i) => points[Math.round((i * (points.length - 1)) / (count - 1))] as Point)
}

for (const standing of [false, true]) {
  hostTest(`DEL alone takes back an ADD that was killed at any call (${standing ? 'a network that stands' : 'a new network'})`, (host, t) => {
    const call = { netns: host.container('c1'), conf, runtimeConfig }
    if (standing) host.mustCni('ADD', { id: 'standing', netns: host.container('standing') })
    // The first ADD ever makes files that stay.
    host.mustCni('ADD', call)
    host.mustCni('DEL', call)
    const points = pointsOf(host, call)
    host.mustCni('DEL', call)
    const before = snapshot(host)
    let killed = 0
    for (const point of spread(points)) {
      if (addKilledAt(host, call, point)) killed++
      host.mustCni('DEL', { id: 'c1' })
      assertSame(snapshot(host), before, `${point.syscall} ${point.when}`)
      assert.equal(host.run(['ip', 'netns', 'exec', 'c1', 'ip', 'link', 'show', 'eth0']).status, 1)
    }
    t.diagnostic(`killed at ${killed} of ${points.length} calls`)
    assert.ok(killed >= 25, `only ${killed} ADDs were killed`)
    if (standing) host.mustCni('DEL', { id: 'standing' })
    assertNothingLeft(host)
  })
}

hostTest('after an ADD that was killed, a new ADD of the same attachment works', (host) => {
  const call = { netns: host.container('c1'), conf, runtimeConfig }
  const points = pointsOf(host, call)
  host.mustCni('DEL', call)
  for (const point of spread(points).filter((_, i) => i % 4 === 2)) {
    addKilledAt(host, call, point)
    // Complete but for its answer: the runtime does not know that, and has to DEL.
    if (host.run(['grep', '-q', '"attached"', '/run/tsnet/attachments/net/c1:eth0.json']).status === 0) host.mustCni('DEL', call)
    const result = host.mustCni('ADD', call)
    host.mustCni('CHECK', { ...call, prevResult: result })
    host.mustCni('DEL', call)
    assertNothingLeft(host)
  }
})

hostTest('GC removes what an ADD that was killed left, and keeps what is listed', (host) => {
  const standing = { id: 'standing', netns: host.container('standing') }
  const prevResult = host.mustCni('ADD', standing)
  const call = { netns: host.container('c1'), conf, runtimeConfig }
  const points = pointsOf(host, call)
  host.mustCni('DEL', call)
  const before = snapshot(host)
  const valid = { ...DUAL_STACK, 'cni.dev/valid-attachments': [{ containerID: 'standing', ifname: 'eth0' }] }
  for (const point of spread(points).filter((_, i) => i % 4 === 1)) {
    addKilledAt(host, call, point)
    host.mustCni('GC', { conf: valid })
    assertSame(snapshot(host), before, `${point.syscall} ${point.when}`)
  }
  host.mustCni('CHECK', { ...standing, prevResult })
})

hostTest('a DEL that was killed is completed by the next one', (host) => {
  const call = { netns: host.container('c1'), conf, runtimeConfig }
  for (const point of [
    { syscall: 'sendto', when: 3 },
    { syscall: 'unlink', when: 1 },
    { syscall: 'rename', when: 1 },
    { syscall: 'pwrite64', when: 1 },
    { syscall: 'flock', when: 2 },
  ]) {
    host.mustCni('ADD', call)
    const { argv, env, input } = host.prepare('DEL', call)
    const inject = `inject=${point.syscall}:signal=SIGKILL:when=${point.when}`
    host.run(['strace', '-o', '/dev/null', '-e', `trace=${point.syscall}`, '-e', inject, ...argv], { env, input })
    host.mustCni('DEL', call)
    assertNothingLeft(host)
  }
})
