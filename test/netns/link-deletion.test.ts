/** How the agent deletes links: another thread sends, and the serving one goes on when the kernel says that they are gone. */
import assert from 'node:assert/strict'
import { closeSync } from 'node:fs'
import { deleteBridgeBy, deleteLinksBy, type Errand } from '../../src/agent/link-deletion.ts'
import { deleteLinks, findLink, openRtnetlink } from '../../src/netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../../src/netlink/socket.ts'
import { libc } from '../../src/sys/libc.ts'
import { hasLink, sendAside } from '../../src/sys/libc-agent.ts'
import { openNetns, within } from '../../src/sys/netns.ts'
import { agentStatus, startAgent } from './agent-process.ts'
import { DUAL_STACK, type Host, hostTest } from './host.ts'
import { eventually } from './machine.ts'
import { assertNothingLeft } from './state.ts'

const runtimeConfig = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] }

function aside({ fd, message }: Errand): void {
  sendAside(fd, message).then(() => closeSync(fd))
}

/** Returns when the kernel has done everything, as if the other thread were very fast. */
function atOnce({ fd, message }: Errand): void {
  libc.send(fd, message, message.length, 0)
  closeSync(fd)
}

function onHost<T>(host: Host, act: (rt: NetlinkSocket) => T extends PromiseLike<unknown> ? never : T): T {
  using netns = openNetns(`/proc/${host.machine.pid}/ns/net`)
  return within<T>(netns, () => {
    using rt = openRtnetlink()
    return act(rt)
  })
}

function makePairs(host: Host, names: readonly string[]): void {
  for (const name of names)
    host.sh(`ip netns add ${name}; ip link add name ${name} type veth peer name eth0 netns ${name}; ip link set dev ${name} up`)
}

const linksIn = (place: { json: Host['json'] }) => place.json<{ ifname: string }>('ip', '-j', 'link').map(({ ifname }) => ifname)

for (const [how, send] of Object.entries({ aside, atOnce })) {
  hostTest(`deleteLinksBy(${how}) returns when the links and their other ends are gone, one as well as several`, (host) => {
    makePairs(host, ['a', 'b', 'c', 'stays'])
    onHost(host, (rt) => {
      const indexes = ['a', 'b', 'c'].map((name) => findLink(rt, name)?.index as number)
      for (const some of [[], indexes.slice(0, 1), indexes.slice(1)]) {
        deleteLinksBy(send)(rt, some)
        for (const index of some) assert.equal(findLink(rt, index), undefined)
      }
      // Somebody else has been faster.
      for (const some of [indexes.slice(0, 1), indexes]) deleteLinksBy(send)(rt, some)
      deleteLinks(rt, indexes)
      assert.notEqual(findLink(rt, 'stays'), undefined)
    })
    for (const name of ['a', 'b', 'c']) assert.equal(host.run(['ip', '-n', name, 'link', 'show', 'eth0']).status, 1)
    assert.equal(host.run(['ip', '-n', 'stays', 'link', 'show', 'eth0']).status, 0)
  })

  hostTest(`deleteLinksBy(${how}) throws the kernel's refusal, as deleteLinks() does`, (host) => {
    onHost(host, (rt) => {
      const refusal = /^KernelError: Cannot delete the link with index 1: .*\(EOPNOTSUPP\)$/
      assert.throws(() => deleteLinks(rt, [1]), refusal)
      assert.throws(() => deleteLinksBy(send)(rt, [1]), refusal)
    })
  })
}

hostTest('deleteLinksBy() deletes by itself what nobody sends', (host) => {
  makePairs(host, ['a', 'b'])
  onHost(host, (rt) => {
    const indexes = ['a', 'b'].map((name) => findLink(rt, name)?.index as number)
    for (const some of [indexes.slice(0, 1), indexes.slice(1)]) {
      deleteLinksBy(({ fd }) => closeSync(fd))(rt, some)
      for (const index of some) assert.equal(findLink(rt, index), undefined)
    }
  })
})

hostTest('deleteBridgeBy() returns when nobody finds the bridge any more, whoever deletes it', (host) => {
  for (const send of [aside, atOnce, ({ fd }: Errand) => closeSync(fd)]) {
    host.sh('ip link add name br0 type bridge; ip addr add 10.9.0.1/24 dev br0; ip link set dev br0 up')
    onHost(host, (rt) => {
      const index = findLink(rt, 'br0')?.index as number
      deleteBridgeBy(send)(rt, index)
      assert.equal(hasLink(index), false)
      deleteBridgeBy(send)(rt, index)
    })
    assert.equal(linksIn(host).includes('br0'), false)
    assert.doesNotMatch(host.exec(['ip', 'route', 'show', 'table', 'all']), /10\.9\.0/)
  }
})

hostTest("deleteBridgeBy() throws the kernel's refusal", (host) => {
  onHost(host, (rt) => assert.throws(() => deleteBridgeBy(aside)(rt, 1), /^KernelError: Cannot delete the link with index 1: .*\(EOPNOTSUPP\)$/))
})

hostTest('whoever comes at once after the last DEL gets a network that is new, through the agent and in one shot', async (host) => {
  const agent = await startAgent(host)
  const netns = host.container('c1')
  const bridge = () => host.json<{ ifindex: number }>('ip', '-j', 'link', 'show', 'dev', DUAL_STACK.bridge)[0]?.ifindex
  for (let i = 0; i < 12; i++) {
    const env = i % 2 === 0 ? {} : { TSNET_RUN_DIR: '/none' }
    const prevResult = host.mustCni('ADD', { netns, runtimeConfig, env })
    const former = bridge()
    host.mustCni('DEL', { netns, runtimeConfig })
    if (i % 3 === 0) assertNothingLeft(host)
    host.mustCni('ADD', { netns, runtimeConfig, env })
    host.mustCni('CHECK', { netns, runtimeConfig, prevResult: {} })
    assert.notEqual(bridge(), former)
    assert.ok(prevResult.interfaces?.some(({ name }) => name === DUAL_STACK.bridge))
    host.mustCni('DEL', { netns, runtimeConfig })
  }
  assert.equal(agentStatus(host).requests['DEL'], 24, agent.log())
  assertNothingLeft(host)
})

hostTest('when DEL has answered, the link is nowhere, and the same container can be attached at once', async (host) => {
  const agent = await startAgent(host)
  host.mustCni('ADD', { id: 'first', netns: host.container('first') })
  const netns = host.container('c1')
  for (let i = 0; i < 20; i++) {
    const { interfaces = [] } = host.mustCni('ADD', { netns, runtimeConfig })
    const link = interfaces.find(({ name }) => name.startsWith('tsn'))?.name as string
    assert.ok(linksIn(host).includes(link))
    host.mustCni('DEL', { netns, runtimeConfig })
    assert.equal(host.run(['test', '-e', `/sys/class/net/${link}`]).status, 1)
    assert.equal(linksIn(host).includes(link), false)
    assert.deepEqual(linksIn(netns), ['lo'])
  }
  assert.equal(agentStatus(host).declined, 0, agent.log())
  host.mustCni('DEL', { id: 'first' })
  assert.equal(linksIn(host).includes(DUAL_STACK.bridge), false)
  assertNothingLeft(host)
})

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  hostTest(`an agent that gets ${signal} while links are deleted ends soon, every DEL succeeds, and nothing is left`, async (host) => {
    const calls = Array.from({ length: 6 }, (_, i) => ({ id: `c${i}`, netns: host.container(`c${i}`) }))
    for (let round = 0; round < 6; round++) {
      const agent = await startAgent(host)
      for (const call of calls) host.mustCni('ADD', call)
      const before = agent.log().split('done').length
      const ends = calls.map((call) => host.cniAsync('DEL', call))
      await eventually('DELs are served', () => agent.log().split('done').length > before + (round % 3))
      const since = Date.now()
      agent.process.kill(signal)
      assert.equal(await agent.ended, signal === 'SIGTERM' ? 0 : 137)
      assert.ok(Date.now() - since < 2_000, `it took ${Date.now() - since} ms`)
      for (const { status, stdout, stderr } of await Promise.all(ends)) assert.equal(status, 0, `${stdout}${stderr}`)
      for (const call of calls) host.mustCni('DEL', { ...call, env: { TSNET_RUN_DIR: '/none' } })
      assertNothingLeft(host)
    }
  })
}

hostTest('an agent that has deleted many links has as many descriptors as before', async (host) => {
  const agent = await startAgent(host)
  host.mustCni('ADD', { id: 'first', netns: host.container('first') })
  const netns = host.container('c1')
  const descriptors = () => Number(host.sh(`ls /proc/${agent.pid}/fd | wc -l`))
  const pairs = (count: number) => {
    for (let i = 0; i < count; i++) for (const command of ['ADD', 'DEL']) host.mustCni(command, { netns })
  }
  pairs(10)
  const before = descriptors()
  pairs(100)
  await eventually('all are closed', () => descriptors() <= before)
  assert.equal(agentStatus(host).declined, 0, agent.log())
})
