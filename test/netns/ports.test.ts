import assert from 'node:assert/strict'
import { ADDRESSES, type Container, DUAL_STACK, hostTest } from './host.ts'
import { assertNothingLeft, assertRefused } from './state.ts'
import type { TransportProtocol } from './talker.ts'

const FAMILIES = [4, 6] as const
const PROTOCOLS = ['tcp', 'udp'] as const

interface Publication {
  readonly hostPort: number
  readonly containerPort: number
  readonly protocol?: string
  readonly hostIP?: string
  readonly range?: number
}

const publish = (...portMappings: readonly Publication[]) => ({ portMappings })
const anyAddress = (family: 4 | 6) => (family === 4 ? '0.0.0.0' : '::')

async function serveAll(container: Container, ports: readonly number[]): Promise<void> {
  for (const port of ports) {
    for (const family of FAMILIES) {
      for (const protocol of PROTOCOLS) await container.talker.serve({ protocol, address: anyAddress(family), port }, container.name)
    }
  }
}

interface Conflict {
  readonly name: string
  readonly first: Publication
  readonly second: Publication
}

const tcp = { containerPort: 80, protocol: 'tcp' }
const CONFLICTS: readonly Conflict[] = [
  { name: 'the same port', first: { ...tcp, hostPort: 8080 }, second: { ...tcp, hostPort: 8080 } },
  { name: 'any address before one address', first: { ...tcp, hostPort: 8080 }, second: { ...tcp, hostPort: 8080, hostIP: ADDRESSES[4].host } },
  { name: 'one address before any address', first: { ...tcp, hostPort: 8080, hostIP: ADDRESSES[6].host }, second: { ...tcp, hostPort: 8080 } },
  {
    name: 'the same address',
    first: { ...tcp, hostPort: 8080, hostIP: ADDRESSES[4].host },
    second: { ...tcp, hostPort: 8080, hostIP: ADDRESSES[4].host },
  },
  { name: 'a range over a port', first: { ...tcp, hostPort: 8005 }, second: { ...tcp, hostPort: 8000, range: 10 } },
  { name: 'a port in a range', first: { ...tcp, hostPort: 8000, range: 600 }, second: { ...tcp, hostPort: 8599 } },
  { name: 'ranges that share one port', first: { ...tcp, hostPort: 8000, range: 11 }, second: { ...tcp, hostPort: 8010, range: 5 } },
]

hostTest('ADD refuses a host port that another attachment has, whatever network it is in', (host) => {
  const [first, second] = [host.container('first'), host.container('second')]
  const other = { ...DUAL_STACK, name: 'other', bridge: 'br-other', ipam: { ranges: [[{ subnet: '10.51.0.0/24' }], [{ subnet: 'fd00:51::/64' }]] } }
  for (const conf of [DUAL_STACK, other]) {
    for (const conflict of CONFLICTS) {
      host.mustCni('ADD', { id: 'first', netns: first, runtimeConfig: publish(conflict.first) })
      const { msg } = assertRefused(host, 'ADD', { id: 'second', netns: second, conf, runtimeConfig: publish(conflict.second) }, 103)
      assert.match(msg ?? '', /:8\d\d\d.*net\/first:eth0/, conflict.name)
      host.mustCni('DEL', { id: 'first', netns: first })
    }
  }
  assertNothingLeft(host)
})

hostTest('host ports that differ in address or protocol coexist, and one that was released is free again', async (host) => {
  const publications = [
    { ...tcp, hostPort: 8080, hostIP: ADDRESSES[4].host },
    { ...tcp, hostPort: 8080, hostIP: ADDRESSES[4].second },
    { ...tcp, hostPort: 8080, hostIP: '::' },
    { ...tcp, hostPort: 8080, protocol: 'udp' },
    { ...tcp, hostPort: 8081, range: 4 },
  ]
  const containers = publications.map((publication, i) => {
    const container = host.container(`c${i}`)
    host.mustCni('ADD', { id: container.name, netns: container, runtimeConfig: publish(publication) })
    return container
  })
  for (const container of containers) await serveAll(container, [80])
  const name = async (protocol: TransportProtocol, address: string) => (await host.outside.talker.ask({ protocol, address, port: 8080 })).name
  assert.equal(await name('tcp', ADDRESSES[4].host), 'c0')
  assert.equal(await name('tcp', ADDRESSES[4].second), 'c1')
  assert.equal(await name('tcp', ADDRESSES[6].host), 'c2')
  assert.equal(await name('udp', ADDRESSES[4].host), 'c3')
  host.mustCni('DEL', { id: 'c0', netns: containers[0] ?? '' })
  const again = host.container('again')
  host.mustCni('ADD', { id: 'again', netns: again, runtimeConfig: publish(publications[0] as Publication) })
  await serveAll(again, [80])
  assert.equal(await name('tcp', ADDRESSES[4].host), 'again')
})

hostTest("a container's second network may name the ports again that the first publishes, as podman does", async (host) => {
  const container = host.container('c1')
  const runtimeConfig = publish({ ...tcp, hostPort: 8080 })
  host.mustCni('ADD', { netns: container, runtimeConfig })
  const conf = { cniVersion: '1.0.0', name: 'other', type: 'tsnet', bridge: 'br-other', ipam: { subnet: '10.51.0.0/24' } }
  host.mustCni('ADD', { netns: container, ifname: 'eth1', conf, runtimeConfig })
  await serveAll(container, [80])
  const ask = () => host.outside.talker.ask({ protocol: 'tcp', address: ADDRESSES[4].host, port: 8080 })
  assert.equal((await ask()).name, 'c1')
  host.mustCni('DEL', { netns: container, ifname: 'eth1', conf, runtimeConfig })
  assert.equal((await ask()).name, 'c1')
  host.mustCni('DEL', { netns: container, runtimeConfig })
  assertNothingLeft(host)
})

hostTest('one request may not publish the same port twice', (host) => {
  const netns = host.container('c1')
  assertRefused(host, 'ADD', { netns, runtimeConfig: publish({ ...tcp, hostPort: 80 }, { ...tcp, hostPort: 80, containerPort: 81 }) }, 7)
})
