import assert from 'node:assert/strict'
import { constants } from 'node:os'
import { forgetByList } from '../../src/nat/stale-connections.ts'
import { openConntrack } from '../../src/netlink/conntrack.ts'
import { openNetns, within } from '../../src/sys/netns.ts'
import { AF_INET } from '../../src/wire/address.ts'
import type { ByteWriter } from '../../src/wire/byte-writer.ts'
import { encodeConntrack, IPCTNL_MSG_CT_DELETE } from '../../src/wire/conntrack.ts'
import { addressToBytes, type IpAddress, parseAddress } from '../../src/wire/ip-address.ts'
import { ADDRESSES, addressIn, type CniCall, type Container, DUAL_STACK, type Host, hostTest, TSNET } from './host.ts'
import type { Question } from './talker.ts'

const FAMILIES = [4, 6] as const
/** The client never changes it: for the kernel all its packets are one connection. */
const SOURCE_PORT = 40_000
const UDP_PORT = { hostPort: 8053, containerPort: 53, protocol: 'udp' }
const UDP_8054 = { ...UDP_PORT, hostPort: 8054 }
const TCP_PORT = { hostPort: 8080, containerPort: 80, protocol: 'tcp' }

async function add(host: Host, name: string, call: CniCall = {}): Promise<{ readonly container: Container; readonly address: string }> {
  const container = host.container(name)
  const result = host.mustCni('ADD', { id: name, netns: container, runtimeConfig: { portMappings: [UDP_PORT, TCP_PORT] }, ...call })
  for (const address of ['0.0.0.0', '::']) {
    await container.talker.serve({ protocol: 'udp', address, port: 53 }, name)
    await container.talker.serve({ protocol: 'tcp', address, port: 80 }, name, { standing: true })
  }
  return { container, address: addressIn(result, 4) }
}

/** @returns The kernel's list, a line a connection, told by another program than tsnet; both families unless one has to be chosen. */
function connections(host: Host, ...words: readonly string[]): readonly string[] {
  const { status, stdout } = host.run(['cat', '/proc/net/nf_conntrack'])
  const text = status === 0 ? stdout : `${host.exec(['conntrack', '-L'])}${host.exec(['conntrack', '-L', '-f', 'ipv6'])}`
  return text.split('\n').filter((line) => line !== '' && words.every((word) => line.split(/\s+/).includes(word)))
}

/** What makes a connection itself, without its age and state. */
function tuplesOf(lines: readonly string[]): readonly string[] {
  return lines.map((line) => line.match(/(src|dst|sport|dport)=\S+/g)?.join(' ') ?? line).sort()
}

const tcp = (family: 4 | 6): Question => ({ protocol: 'tcp', address: ADDRESSES[family].host, port: 8080, localPort: SOURCE_PORT })
const udp = (family: 4 | 6): Question => ({ protocol: 'udp', address: ADDRESSES[family].host, port: 8053, localPort: SOURCE_PORT })

hostTest('a UDP client that goes on sending reaches the container that took the port over', async (host) => {
  const ask = (family: 4 | 6, options: object) => host.outside.talker.ask({ ...udp(family), ...options })
  const { container: first } = await add(host, 'first')
  for (const family of FAMILIES) await ask(family, { expect: 'first' })
  host.mustCni('DEL', { id: 'first', netns: first })
  // Nobody has the port now, yet the client goes on: its datagrams must not pin the connection to the host itself.
  for (const family of FAMILIES) await assert.rejects(ask(family, { timeoutMs: 300 }))
  const { container: second } = await add(host, 'second')
  for (const family of FAMILIES) assert.equal((await ask(family, { expect: 'second' })).name, 'second')
  // No moment without an owner either: the container is gone, and the runtime's DEL comes together with the next ADD.
  host.exec(['ip', 'netns', 'del', 'second'])
  await second.endProcesses()
  host.mustCni('DEL', { id: 'second', netns: second })
  await add(host, 'third')
  for (const family of FAMILIES) assert.equal((await ask(family, { expect: 'third' })).name, 'third')
})

hostTest('a TCP client that connects from the port of a broken connection reaches the container that took the port over', async (host) => {
  const { talker } = host.outside
  const { container: first, address } = await add(host, 'first')
  for (const family of FAMILIES) assert.equal((await talker.hold(tcp(family))).name, 'first')
  assert.equal(connections(host, `src=${address}`, `dport=${SOURCE_PORT}`).length, 1)
  host.mustCni('DEL', { id: 'first', netns: first })
  assert.deepEqual(connections(host, `sport=${SOURCE_PORT}`), [])
  await add(host, 'second')
  for (const family of FAMILIES) {
    // The client learns at once that its connection leads nowhere, instead of sending to a dead address for minutes.
    await assert.rejects(talker.hold(tcp(family)), /ECONNRESET|closed/)
    await talker.drop(tcp(family))
    assert.equal((await talker.hold({ ...tcp(family), timeoutMs: 2000 })).name, 'second')
  }
})

hostTest('clients that talked to a process of the host reach the container once it is published', async (host) => {
  const servers = FAMILIES.flatMap((family) =>
    (['udp', 'tcp'] as const).map((protocol) => ({ ...(protocol === 'udp' ? udp : tcp)(family), protocol })),
  )
  // Tracking starts with the first network, as on a host where containers run already.
  host.mustCni('ADD', { id: 'other', netns: host.container('other') })
  for (const { localPort: _, ...server } of servers) await host.talker.serve(server, 'process', { standing: true })
  for (const question of servers) {
    const ask = question.protocol === 'udp' ? host.outside.talker.ask(question) : host.outside.talker.hold(question)
    assert.equal((await ask).name, 'process')
  }
  for (const question of servers.filter(({ protocol }) => protocol === 'tcp')) await host.outside.talker.drop(question)
  for (const { localPort: _, ...server } of servers) await host.talker.close(server)
  await add(host, 'container')
  for (const question of servers) {
    const ask = question.protocol === 'udp' ? host.outside.talker.ask({ ...question, expect: 'container' }) : host.outside.talker.hold(question)
    assert.equal((await ask).name, 'container')
  }
})

hostTest('an address comes to its next holder without connections, however the former one went', async (host) => {
  for (const address of [ADDRESSES[4].far, ADDRESSES[6].far]) await host.outside.talker.serve({ protocol: 'udp', address, port: 53 }, 'far')
  const args = 'IgnoreUnknown=1;IP=10.50.0.9'
  const talk = async (name: string) => {
    const { container } = await add(host, name, { args })
    await container.talker.ask({ protocol: 'udp', address: ADDRESSES[4].far, port: 53, localPort: SOURCE_PORT })
    await host.outside.talker.hold({ ...tcp(4), localPort: 40_001 })
    await host.outside.talker.drop({ ...tcp(4), localPort: 40_001 })
    await host.talker.ask({ protocol: 'udp', address: '10.50.0.9', port: 53 })
    assert.ok(connections(host, 'src=10.50.0.9').length >= 3)
    return container
  }
  host.mustCni('DEL', { id: 'first', netns: await talk('first') })
  assert.deepEqual(connections(host, 'src=10.50.0.9'), [])
  const second = await talk('second')
  host.exec(['ip', 'netns', 'del', 'second'])
  await second.endProcesses()
  host.mustCni('GC', { conf: { ...DUAL_STACK, 'cni.dev/valid-attachments': [] } })
  assert.deepEqual(connections(host, 'src=10.50.0.9'), [])
  // Neither DEL nor GC: somebody has deleted what tsnet knew.
  const third = await talk('third')
  host.sh('ip netns del third; rm -r /run/tsnet; ip link del br-net; nft flush ruleset')
  await third.endProcesses()
  host.mustCni('ADD', { id: 'fourth', netns: host.container('fourth'), args })
  assert.deepEqual(connections(host, 'src=10.50.0.9'), [])
})

/** Connections of everybody else, with the port numbers of a container that comes and goes. */
async function busyHost(host: Host): Promise<void> {
  const { container, address } = await add(host, 'keeper', { runtimeConfig: { portMappings: keeperPorts } })
  for (const to of [ADDRESSES[4].outside, ADDRESSES[6].outside]) {
    await host.outside.talker.serve({ protocol: 'udp', address: to, port: 8054 }, 'outside')
    await host.outside.talker.serve({ protocol: 'tcp', address: to, port: 8080 }, 'outside', { standing: true })
    for (const client of [host.talker, container.talker]) {
      await client.ask({ protocol: 'udp', address: to, port: 8054, localPort: SOURCE_PORT })
      await client.hold({ protocol: 'tcp', address: to, port: 8080, localPort: SOURCE_PORT })
    }
  }
  // Somebody's own translation of another host's address, as a cluster does for its services.
  host.sh(`iptables -t nat -A OUTPUT -d 10.66.0.1 -p udp --dport 8056 -j DNAT --to ${address}:53`)
  await host.talker.ask({ protocol: 'udp', address: '10.66.0.1', port: 8056, localPort: 40_002 })
  for (const { second } of [ADDRESSES[4], ADDRESSES[6]]) {
    await host.outside.talker.ask({ protocol: 'udp', address: second, port: 8054, localPort: SOURCE_PORT })
    await host.outside.talker.ask({ protocol: 'udp', address: second, port: 8064, localPort: SOURCE_PORT })
    await host.outside.talker.hold({ protocol: 'tcp', address: second, port: 8080, localPort: SOURCE_PORT })
  }
}

const keeperPorts = [
  ...[ADDRESSES[4].second, ADDRESSES[6].second].flatMap((hostIP) => [
    { ...UDP_8054, hostIP },
    { ...TCP_PORT, hostIP },
  ]),
  { hostPort: 8064, containerPort: 53, protocol: 'udp' },
]

hostTest('connections of others survive an ADD, a DEL and changes of ports', async (host) => {
  await busyHost(host)
  const before = tuplesOf(connections(host))
  assert.ok(before.length >= 15, `${before.length}`)
  const lost = () => before.filter((tuple) => !tuplesOf(connections(host)).includes(tuple))
  const hostIPs = [ADDRESSES[4].host, ADDRESSES[6].host]
  const range = Array.from({ length: 9 }, (_, i) => ({ hostPort: 8055 + i, containerPort: 8055 + i, protocol: 'udp' }))
  const portMappings = [...hostIPs.flatMap((hostIP) => [UDP_8054, TCP_PORT].map((port) => ({ ...port, hostIP }))), ...range]
  const { container } = await add(host, 'passing', { runtimeConfig: { portMappings } })
  assert.deepEqual(lost(), [])
  for (const action of ['add', 'rm']) host.exec([TSNET, 'port', action, 'passing', '-p', '9100-9108:9100-9108/udp', '-p', '8065:80'])
  assert.deepEqual(lost(), [])
  host.mustCni('DEL', { id: 'passing', netns: container })
  assert.deepEqual(lost(), [])
})

hostTest('tsnet port rm cuts off who came by that port, and nobody else', async (host) => {
  const { address } = await add(host, 'web', { runtimeConfig: { portMappings: [TCP_PORT, UDP_PORT, { ...TCP_PORT, hostPort: 8081 }] } })
  const { talker } = host.outside
  const other = { ...tcp(4), port: 8081 }
  const direct: Question = { protocol: 'tcp', address, port: 80 }
  const ranged: Question = { protocol: 'udp', address: ADDRESSES[6].host, port: 7003, localPort: SOURCE_PORT }
  host.exec([TSNET, 'port', 'add', 'web', '-p', '80:80', '-p', '7000-7009:50-59/udp'])
  for (const question of [tcp(4), tcp(6), other]) await talker.hold(question)
  await host.talker.hold(direct)
  await talker.ask(udp(4))
  await talker.ask(ranged)
  host.exec([TSNET, 'port', 'rm', 'web', '-p', '8080:80', '-p', '8053:53/udp', '-p', '80:80', '-p', '7000-7009:50-59/udp'])
  for (const family of FAMILIES) await assert.rejects(talker.hold({ ...tcp(family), timeoutMs: 2000 }), /ECONNRESET|closed/)
  for (const question of [udp(4), ranged]) await assert.rejects(talker.ask({ ...question, timeoutMs: 300 }))
  assert.equal((await talker.hold(other)).name, 'web')
  assert.equal(connections(host, `dst=${address}`, 'dport=80').length, 1)
  assert.equal((await host.talker.hold(direct)).name, 'web')
})

hostTest('a kernel without deletion by filter refuses the request, and one by one the same connections go', async (host) => {
  const { address } = await add(host, 'web')
  for (const family of FAMILIES) await host.outside.talker.hold(tcp(family))
  await host.talker.ask({ protocol: 'udp', address, port: 53 })
  const all = connections(host)
  using netns = openNetns(`/proc/${host.machine.pid}/ns/net`)
  within(netns, () => {
    using ct = openConntrack()
    const ip = { v4Source: addressToBytes(parseAddress(address) as IpAddress) }
    for (const tuples of [{ original: { ip } }, { reply: { ip } }]) {
      // Such a kernel reads just this of the request: it looks for one connection, and a tuple that is not whole names none.
      const body = (w: ByteWriter) => encodeConntrack(w, AF_INET, tuples)
      assert.equal(ct.execute({ operation: 'delete', type: IPCTNL_MSG_CT_DELETE, body }, constants.errno.EINVAL), false)
    }
  })
  assert.deepEqual(tuplesOf(connections(host)), tuplesOf(all))
  within(netns, () => {
    using ct = openConntrack()
    for (const tracked of [all.length, Number.POSITIVE_INFINITY]) forgetByList(ct, [parseAddress(address) as IpAddress], tracked)
  })
  assert.deepEqual(connections(host, `src=${address}`), [])
  assert.deepEqual(tuplesOf(connections(host)), tuplesOf(all.filter((line) => !line.includes(`src=${address} `))))
})
