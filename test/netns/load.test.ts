/** Many callers at once: nothing is handed out twice, nothing is left, nobody waits for ever. `make soak` has the long form. */
import assert from 'node:assert/strict'
import { startAgent } from './agent-process.ts'
import { DUAL_STACK, type Host, hostTest, TSNET } from './host.ts'
import { SOAK } from './kill.ts'
import { Caller } from './load-caller.ts'
import { type LoadNetwork, Model } from './load-model.ts'
import { assertNothingLeft, leasesOf } from './state.ts'

const AT_ONCE = SOAK ? 200 : 40
const LOAD_MS = SOAK ? 300_000 : 6_000
const LOAD_PERIOD_MS = 30_000
const CALLERS = 8
const CONTAINERS_EACH = 3
const MOST_PORTS = 1023
const STANDING = 1000
/** For machines that are slower than a caller's patience. */
const PATIENT = { TSNET_TIMEOUT: '600' }

const { backend } = DUAL_STACK
const WIDE = { ...DUAL_STACK, ipam: { ranges: [[{ subnet: '10.50.0.0/21' }], [{ subnet: 'fd00:50::/64' }]] } }
const NETWORKS: readonly LoadNetwork[] = [
  { conf: DUAL_STACK, ifname: 'eth0', capacity: 253 },
  {
    conf: { ...DUAL_STACK, name: 'second', bridge: 'br-second', macspoofchk: true, ipam: { subnet: '10.60.0.0/24' } },
    ifname: 'eth1',
    capacity: 253,
  },
  { conf: { cniVersion: '1.1.0', type: 'tsnet', backend, name: 'small', ipam: { subnet: '10.70.0.0/28' } }, ifname: 'eth2', capacity: 13 },
]

hostTest(`${AT_ONCE} ADDs at once get addresses and ports of their own, and ${AT_ONCE} DELs at once leave nothing`, async (host) => {
  const calls = Array.from({ length: AT_ONCE }, (_, i) => ({
    id: `c${i}`,
    netns: host.container(`c${i}`),
    conf: WIDE,
    env: PATIENT,
    runtimeConfig: { portMappings: [{ hostPort: i % 2 === 0 ? 8000 + i : 0, containerPort: 80, protocol: 'tcp' }] },
  }))
  const added = await Promise.all(calls.map((call) => host.cniAsync('ADD', call)))
  for (const { status, stdout, stderr } of added) assert.equal(status, 0, `${stdout}${stderr}`)
  assert.equal(new Set(added.flatMap(({ json }) => json.ips?.map(({ address }) => address) ?? [])).size, 2 * AT_ONCE)
  assert.equal(leasesOf(host).length, 2 * AT_ONCE)
  const published = JSON.parse(host.exec([TSNET, 'ls', '--json'])) as readonly { readonly ports: readonly { hostPort: number; address: string }[] }[]
  const ports = published.flatMap((record) => record.ports.map(({ hostPort, address }) => `${hostPort} ${address.includes(':')}`))
  assert.equal(new Set(ports).size, 2 * AT_ONCE)
  const deleted = await Promise.all(calls.map((call) => host.cniAsync('DEL', call)))
  for (const { status, stdout, stderr } of deleted) assert.equal(status, 0, `${stdout}${stderr}`)
  assertNothingLeft(host)
})

/** @returns Numbers from 0 to 1, the same for the same seed. @see Mulberry32 */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

function makeCallers(host: Host, model: Model, seed: number): readonly Caller[] {
  return Array.from({ length: CALLERS }, (_, number) => {
    const containers = Array.from({ length: CONTAINERS_EACH }, (_, i) => host.container(`c${number}-${i}`))
    const slots = containers.flatMap((container) =>
      NETWORKS.map((network) => ({ network, container, state: 'free' as const, result: {}, ports: [] })),
    )
    model.slots.push(...slots)
    // Half of them through the agent, half past it.
    return new Caller(host, model, {
      number,
      slots: model.slots.slice(-slots.length),
      random: randomFrom(seed * CALLERS + number),
      agent: number % 2 === 0,
    })
  })
}

hostTest(
  `${CALLERS} callers over ${NETWORKS.length} networks do what they like for ${LOAD_MS / 1000} s, and a model knows the outcome`,
  async (host, t) => {
    const seed = Number(process.env['TSNET_TEST_SEED'] ?? (SOAK ? Date.now() % 1_000_000 : 1))
    t.diagnostic(`TSNET_TEST_SEED=${seed}`)
    const agent = await startAgent(host, { argv: [TSNET, 'agent'] })
    const model = new Model(host)
    const callers = makeCallers(host, model, seed)
    for (const end = Date.now() + LOAD_MS; Date.now() < end; ) {
      const period = Math.min(end, Date.now() + LOAD_PERIOD_MS)
      const outcomes = await Promise.allSettled(callers.map((caller) => caller.run(period)))
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
      model.assertTrue()
    }
    const attached = model.slots.filter(({ state }) => state !== 'free')
    const [caller] = callers
    for (const slot of attached) await caller?.check(slot)
    for (const slot of attached) await caller?.delete(slot)
    assert.equal(await agent.stop(), 0, agent.log())
    const made = callers.flatMap(({ calls }) => [...calls])
    const count = (name: string) => made.reduce((sum, [other, calls]) => sum + (other === name ? calls : 0), 0)
    const names = ['ADD', 'DEL', 'CHECK', 'GC', 'repair', 'ADD killed', 'DEL killed']
    t.diagnostic(names.map((name) => `${count(name)} ${name}`).join(', '))
    for (const name of names.slice(0, 3)) assert.ok(count(name) > 0, name)
    assertNothingLeft(host)
  },
)

hostTest(`a bridge takes ${MOST_PORTS} ports, and the next ADD is told so and leaves nothing`, async (host) => {
  host.mustCni('ADD', { id: 'first', netns: host.container('first') })
  const lines = Array.from({ length: MOST_PORTS / 2 }, (_, i) => [
    `link add p${i} type veth peer name q${i}`,
    `link set p${i} master br-net`,
    `link set q${i} master br-net`,
  ])
  host.exec(['ip', '-batch', '-'], { input: lines.flat().join('\n') })
  const links = () => host.json<{ ifname: string }>('ip', '-j', 'link').length
  const before = links()
  const { json, stdout } = host.cni('ADD', { netns: host.container('c1') })
  assert.match(`${json.msg}`, /bridge "br-net": it has the 1023 /, stdout)
  assert.equal(links(), before)
  assert.deepEqual(
    leasesOf(host).map((lease) => lease.split(' ')[1]),
    ['first:eth0', 'first:eth0'],
  )
})

if (SOAK) {
  hostTest(`${STANDING} attachments stand at once, are what they should be, and go again`, async (host, t) => {
    const agent = await startAgent(host, { argv: [TSNET, 'agent'] })
    const call = (i: number) => ({ id: `c${i}`, netns: `/run/netns/c${i}`, conf: WIDE, env: PATIENT })
    host.exec(['sh', '-c', `for i in $(seq 0 ${MOST_PORTS}); do ip netns add c$i; done`])
    const begin = Date.now()
    for (let i = 0; i < STANDING; i++) host.mustCni('ADD', call(i))
    t.diagnostic(`${STANDING} ADDs in ${Date.now() - begin} ms`)
    assert.equal(leasesOf(host).length, 2 * STANDING)
    assert.equal(new Set(leasesOf(host).map((lease) => lease.split(' ')[0])).size, 2 * STANDING)
    for (let i = 0; i < STANDING; i += 50) host.mustCni('CHECK', { ...call(i), prevResult: {} })
    for (let i = STANDING; i < MOST_PORTS; i++) host.mustCni('ADD', call(i))
    assert.match(`${host.cni('ADD', call(MOST_PORTS)).json.msg}`, /bridge "br-net": it has the 1023 /)
    for (let i = 0; i < MOST_PORTS; i++) host.mustCni('DEL', call(i))
    assert.equal(await agent.stop(), 0)
    assertNothingLeft(host)
  })
}
