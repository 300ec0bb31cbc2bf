/** Kills while a container with an interface gets or loses another: the policy rules of both go with their interfaces. */
import assert from 'node:assert/strict'
import { type Container, DUAL_STACK, type Host, hostTest } from './host.ts'
import { changesOf, killAt, SOAK, spread } from './kill.ts'
import { assertNothingLeft, assertSame, snapshot } from './state.ts'

const MOST = 24

const SECOND = {
  ...DUAL_STACK,
  name: 'second',
  bridge: 'br-second',
  ipam: { ranges: [[{ subnet: '10.60.0.0/24' }], [{ subnet: 'fd00:60::/64' }]] },
}

const first = (netns: Container) => ({ netns, conf: DUAL_STACK, ifname: 'eth0' })
const second = (netns: Container) => ({ netns, conf: SECOND, ifname: 'eth1' })

/** Rules and routes of every table, of the container. */
function routingOf(container: Container): string {
  return ['-4', '-6']
    .map((family) => container.exec(['ip', family, 'rule']) + container.exec(['ip', family, 'route', 'show', 'table', 'all']))
    .join('\n')
}

const REMEDIES = {
  'DEL alone': (host: Host, netns: Container) => void host.mustCni('DEL', { ...second(netns), netns: '' }),
  'GC alone': (host: Host) => void host.mustCni('GC', { conf: { ...SECOND, 'cni.dev/valid-attachments': [] } }),
  'a new ADD': (host: Host, netns: Container) => {
    // Complete but for its answer: the runtime does not know that, and has to DEL.
    if (host.run(['grep', '-q', '"attached"', '/run/tsnet/attachments/second/c1:eth1.json']).status === 0) host.mustCni('DEL', second(netns))
    const prevResult = host.mustCni('ADD', second(netns))
    host.mustCni('CHECK', { ...second(netns), prevResult })
    host.mustCni('CHECK', { ...first(netns), prevResult })
    host.mustCni('DEL', second(netns))
  },
} as const

for (const [remedy, clean] of Object.entries(REMEDIES)) {
  hostTest(`${remedy} takes back a second network's ADD that was killed at any call`, (host, t) => {
    const c1 = host.container('c1')
    host.mustCni('ADD', first(c1))
    const routing = routingOf(c1)
    // The first one of all makes files that stay: the later ones have fewer calls.
    host.mustCni('ADD', second(c1))
    host.mustCni('DEL', second(c1))
    const points = changesOf(host, host.prepare('ADD', second(c1)))
    host.mustCni('DEL', second(c1))
    const before = snapshot(host)
    // The last calls, where the rules are made, are looked at closer.
    const chosen = SOAK ? points : [...spread(points, MOST / 2), ...points.slice(-MOST / 2)]
    let killed = 0
    for (const point of chosen) {
      if (killAt(host, host.prepare('ADD', second(c1)), point)) killed++
      clean(host, c1)
      assert.equal(routingOf(c1), routing, point.text)
      assertSame(snapshot(host), before, point.text)
    }
    t.diagnostic(`killed at ${killed} of ${points.length} calls`)
    assert.ok(killed >= MOST - 4, `only ${killed} ADDs were killed`)
    host.mustCni('DEL', first(c1))
    assertNothingLeft(host)
  })
}

hostTest('the DEL of the first network is completed after a kill: the second has the default route, and no rule is left at the end', (host, t) => {
  const c1 = host.container('c1')
  const empty = routingOf(c1)
  const attach = () => [host.mustCni('ADD', first(c1)), host.mustCni('ADD', second(c1))] as const
  attach()
  const points = changesOf(host, host.prepare('DEL', first(c1)))
  host.mustCni('DEL', second(c1))
  let killed = 0
  for (const point of spread(points, MOST)) {
    const [, prevResult] = attach()
    if (killAt(host, host.prepare('DEL', first(c1)), point)) killed++
    host.mustCni('DEL', first(c1))
    host.mustCni('CHECK', { ...second(c1), prevResult })
    for (const family of ['-4', '-6']) assert.match(c1.exec(['ip', family, 'route', 'show', 'default']), /dev eth1/)
    host.mustCni('DEL', second(c1))
    assert.equal(routingOf(c1).replace(/.* dev lo .*\n/g, ''), empty.replace(/.* dev lo .*\n/g, ''), point.text)
    assertNothingLeft(host)
  }
  t.diagnostic(`killed at ${killed} of ${points.length} calls`)
  assert.ok(killed >= MOST / 2, `only ${killed} DELs were killed`)
})
