import assert from 'node:assert/strict'
import { ADDRESSES, type Container, type Host, hostTest } from './host.ts'

const FAMILIES = [4, 6] as const
const portMappings = [{ hostPort: 8053, containerPort: 53, protocol: 'udp' }]
/** The client never changes it: for the kernel all its datagrams are one connection. */
const SOURCE_PORT = 40_000

async function publish(host: Host, name: string): Promise<Container> {
  const container = host.container(name)
  host.mustCni('ADD', { id: name, netns: container, runtimeConfig: { portMappings } })
  for (const address of ['0.0.0.0', '::']) await container.talker.serve({ protocol: 'udp', address, port: 53 }, name)
  return container
}

hostTest('a UDP client that goes on sending reaches the container that took the port over', async (host) => {
  const ask = (family: 4 | 6, options: { readonly expect?: string; readonly timeoutMs?: number }) =>
    host.outside.talker.ask({ protocol: 'udp', address: ADDRESSES[family].host, port: 8053, localPort: SOURCE_PORT, ...options })
  const first = await publish(host, 'first')
  for (const family of FAMILIES) await ask(family, { expect: 'first' })
  host.mustCni('DEL', { id: 'first', netns: first })
  // Nobody has the port now, yet the client goes on: its datagrams must not pin the connection to the host itself.
  for (const family of FAMILIES) await assert.rejects(ask(family, { timeoutMs: 300 }))
  const second = await publish(host, 'second')
  for (const family of FAMILIES) assert.equal((await ask(family, { expect: 'second' })).name, 'second')
  // No moment without an owner either: the container is gone, and the runtime's DEL comes together with the next ADD.
  host.exec(['ip', 'netns', 'del', 'second'])
  await second.stopTalker()
  host.mustCni('DEL', { id: 'second', netns: second })
  await publish(host, 'third')
  for (const family of FAMILIES) assert.equal((await ask(family, { expect: 'third' })).name, 'third')
})

hostTest('a UDP client that talked to a process of the host reaches the container once it is published', async (host) => {
  const endpoints = FAMILIES.map((family) => ({ protocol: 'udp', address: ADDRESSES[family].host, port: 8053 }) as const)
  // Tracking starts with the first network, as on a host where containers run already.
  host.mustCni('ADD', { id: 'other', netns: host.container('other') })
  for (const endpoint of endpoints) {
    await host.talker.serve(endpoint, 'process')
    assert.equal((await host.outside.talker.ask({ ...endpoint, localPort: SOURCE_PORT })).name, 'process')
    await host.talker.close(endpoint)
  }
  await publish(host, 'container')
  for (const endpoint of endpoints) {
    assert.equal((await host.outside.talker.ask({ ...endpoint, localPort: SOURCE_PORT, expect: 'container' })).name, 'container')
  }
})

hostTest('connections to other ports and other containers survive an ADD and a DEL', async (host, t) => {
  const keeper = await publish(host, 'keeper')
  const question = { protocol: 'udp', address: ADDRESSES[4].host, port: 8053, localPort: SOURCE_PORT } as const
  await host.outside.talker.ask(question)
  const entries = () => {
    const lines = host.exec(['cat', '/proc/net/nf_conntrack']).split('\n')
    return lines.filter((line) => line.includes('dport=8053') && line.includes(`sport=${SOURCE_PORT}`)).length
  }
  if (host.run(['test', '-r', '/proc/net/nf_conntrack']).status !== 0) return t.skip('The kernel does not list connections in /proc')
  assert.equal(entries(), 1)
  const container = host.container('passing')
  const runtimeConfig = { portMappings: [{ hostPort: 8054, containerPort: 53, protocol: 'udp' }] }
  host.mustCni('ADD', { id: 'passing', netns: container, runtimeConfig })
  host.mustCni('DEL', { id: 'passing', netns: container })
  assert.equal(entries(), 1)
  assert.equal((await host.outside.talker.ask(question)).name, 'keeper')
  host.mustCni('DEL', { id: 'keeper', netns: keeper })
  assert.equal(entries(), 0)
})
