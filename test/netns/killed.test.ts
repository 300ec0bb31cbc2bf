import assert from 'node:assert/strict'
import { DUAL_STACK, hostTest } from './host.ts'
import { addKilledAt, pointsOf, spread } from './kill.ts'
import { assertNothingLeft, assertSame, snapshot } from './state.ts'

/** With everything that an ADD may make. */
const conf = { ...DUAL_STACK, macspoofchk: true }
const runtimeConfig = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] }

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
