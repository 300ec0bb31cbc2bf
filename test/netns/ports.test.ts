import assert from 'node:assert/strict'
import { ADDRESSES, type Container, DUAL_STACK, type Host, hostTest } from './host.ts'
import { useLegacyIptables } from './iptables-variant.ts'
import { assertNothingLeft, assertRefused, rulesOf } from './state.ts'
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

/** Which of the addresses answer a TCP client; the others refuse, because nobody listens there. */
async function answering(from: Host | Host['outside'], addresses: readonly string[], port: number): Promise<readonly string[]> {
  const asked = addresses.map(async (address) => {
    try {
      await from.talker.ask({ protocol: 'tcp', address, port })
      return [address]
    } catch (error) {
      assert.match(String(error), /ECONNREFUSED/)
      return []
    }
  })
  return (await Promise.all(asked)).flat()
}

const hostAddresses = FAMILIES.flatMap((family) => [ADDRESSES[family].host, ADDRESSES[family].second])

for (const variant of ['nft', 'legacy'] as const) {
  hostTest(`a shifted range 8000-8010:9000-9010 leads each port to its own (iptables-${variant})`, async (host, t) => {
    if (variant === 'legacy' && !useLegacyIptables(host)) return t.skip('The kernel has no legacy iptables')
    const container = host.container('c1')
    const mappings = PROTOCOLS.map((protocol) => ({ hostPort: 8000, containerPort: 9000, range: 11, protocol }))
    host.mustCni('ADD', { netns: container, runtimeConfig: publish(...mappings) })
    assert.match(rulesOf(host), new RegExp(`(^|\n)iptables-${variant}-save\n[\\s\\S]*?8000:8010`))
    await serveAll(container, [9000, 9003, 9010])
    for (const family of FAMILIES) {
      for (const protocol of PROTOCOLS) {
        for (const offset of [0, 3, 10]) {
          const question = { protocol, address: ADDRESSES[family].host, port: 8000 + offset }
          assert.equal((await host.outside.talker.ask(question)).port, 9000 + offset)
          assert.equal((await host.talker.ask(question)).port, 9000 + offset)
        }
      }
    }
    host.mustCni('DEL', { netns: container })
    assertNothingLeft(host)
  })

  hostTest(`a port on one of the host's addresses answers there alone (iptables-${variant})`, async (host, t) => {
    if (variant === 'legacy' && !useLegacyIptables(host)) return t.skip('The kernel has no legacy iptables')
    const container = host.container('c1')
    const mappings = [
      { hostPort: 8081, containerPort: 80, hostIP: ADDRESSES[4].host },
      { hostPort: 8082, containerPort: 80, hostIP: ADDRESSES[6].second },
      { hostPort: 8083, containerPort: 80, hostIP: '0.0.0.0' },
      { hostPort: 8084, containerPort: 80, hostIP: '::' },
      { hostPort: 8085, containerPort: 80, hostIP: '127.0.0.1' },
      { hostPort: 8086, containerPort: 80, hostIP: '' },
    ]
    host.mustCni('ADD', { netns: container, runtimeConfig: publish(...mappings) })
    await serveAll(container, [80])
    const [host4, second4, host6, second6] = hostAddresses
    for (const from of [host.outside, host]) {
      assert.deepEqual(await answering(from, hostAddresses, 8081), [host4])
      assert.deepEqual(await answering(from, hostAddresses, 8082), [second6])
      assert.deepEqual(await answering(from, hostAddresses, 8083), [host4, second4])
      assert.deepEqual(await answering(from, hostAddresses, 8084), [host6, second6])
      assert.deepEqual(await answering(from, hostAddresses, 8085), [])
      assert.deepEqual(await answering(from, hostAddresses, 8086), hostAddresses)
    }
    assert.deepEqual(await answering(host, ['127.0.0.1'], 8085), ['127.0.0.1'])
    assert.deepEqual(await answering(host, ['127.0.0.1'], 8081), [])
    host.mustCni('DEL', { netns: container })
    assertNothingLeft(host)
  })
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

hostTest('SCTP ports are published where the kernel has SCTP', async (host, t) => {
  const probe = host.run(['socat', '-u', 'OPEN:/dev/null', 'SCTP:127.0.0.1:9'])
  if (/not supported/.test(probe.stderr)) return t.skip('The kernel has no SCTP')
  const container = host.container('c1')
  host.mustCni('ADD', { netns: container, runtimeConfig: publish({ hostPort: 8080, containerPort: 80, protocol: 'sctp' }) })
  const server = container.start(['socat', 'SCTP-LISTEN:80,reuseaddr,fork', 'SYSTEM:echo web'])
  t.after(() => server.kill('SIGKILL'))
  assert.equal(host.outside.exec(['socat', '-u', `SCTP:${ADDRESSES[4].host}:8080,retry=50,interval=0.1`, '-']).trim(), 'web')
  host.mustCni('DEL', { netns: container })
})
