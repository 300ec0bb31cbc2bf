/** Kernel parameters that are no wider than they have to be: each is shown by what goes through and what does not. */
import assert from 'node:assert/strict'
import { ADDRESSES, type Container, DUAL_STACK, type Host, hostTest, TSNET } from './host.ts'
import { eventually, type Place } from './machine.ts'
import { Sniffer } from './sniff.ts'
import { assertNothingLeft, assertRefused, assertSame, snapshot } from './state.ts'

const V4_ONLY = { ...DUAL_STACK, ipam: { subnet: '10.50.0.0/24' } }
const OTHER = { ...V4_ONLY, name: 'other', bridge: 'br-other', ipam: { subnet: '10.51.0.0/24' } }

const read = (place: Place, key: string) => place.exec(['cat', `/proc/sys/net/${key}`]).trim()
const write = (place: Place, key: string, value: string) => place.sh(`echo ${value} > /proc/sys/net/${key}`)
const routesLoopback = (host: Host) => read(host, 'ipv4/conf/br-net/route_localnet')
const reversePath = (host: Host, bridge = 'br-net') => read(host, `ipv4/conf/${bridge}/rp_filter`)
const publish = (hostPort: number, hostIP?: string) => ({
  portMappings: [{ hostPort, containerPort: 80, protocol: 'tcp', ...(hostIP !== undefined && { hostIP }) }],
})

function tsnet(host: Host, ...args: readonly string[]): string {
  return host.exec([TSNET, ...args])
}

async function serve(container: Container): Promise<void> {
  await container.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port: 80 }, container.name)
}

hostTest('a bridge routes loopback addresses only while a container publishes a port that answers on them', async (host) => {
  const [plain, first, second] = [host.container('plain'), host.container('first'), host.container('second')]
  host.mustCni('ADD', { id: 'plain', netns: plain })
  for (const hostIP of [ADDRESSES[4].host, ADDRESSES[6].host, '::']) {
    host.mustCni('ADD', { id: 'first', netns: first, runtimeConfig: publish(8080, hostIP) })
    assert.equal(routesLoopback(host), '0', hostIP)
    host.mustCni('DEL', { id: 'first', netns: first })
  }
  for (const hostIP of [undefined, '', '0.0.0.0', '127.0.0.1', '127.1.2.3']) {
    host.mustCni('ADD', { id: 'first', netns: first, runtimeConfig: publish(8080, hostIP) })
    assert.equal(routesLoopback(host), '1', hostIP)
    host.mustCni('DEL', { id: 'first', netns: first })
    assert.equal(routesLoopback(host), '0', hostIP)
  }
  host.mustCni('ADD', { id: 'first', netns: first, runtimeConfig: publish(8080) })
  host.mustCni('ADD', { id: 'second', netns: second, runtimeConfig: publish(8081, '127.0.0.1') })
  host.mustCni('DEL', { id: 'first', netns: first })
  await serve(second)
  assert.equal((await host.talker.ask({ protocol: 'tcp', address: '127.0.0.1', port: 8081 })).name, 'second')
  for (const id of ['plain', 'second']) host.mustCni('CHECK', { id, netns: `/run/netns/${id}`, prevResult: {} })
  write(host, 'ipv4/conf/br-net/route_localnet', '0')
  assert.match(host.cni('CHECK', { id: 'second', netns: second, prevResult: {} }).json.msg ?? '', /route_localnet = 1/)
  host.mustCni('CHECK', { id: 'plain', netns: plain, prevResult: {} })
  for (const id of ['plain', 'second']) host.mustCni('DEL', { id })
  assertNothingLeft(host)
})

hostTest('tsnet port add and rm turn the routing of loopback addresses on and off', async (host) => {
  const container = host.container('c1')
  host.mustCni('ADD', { netns: container })
  await serve(container)
  tsnet(host, 'port', 'add', 'c1', '-p', `${ADDRESSES[4].host}:8080:80`)
  assert.equal(routesLoopback(host), '0')
  tsnet(host, 'port', 'add', 'c1', '-p', '8081:80', '-p', '127.0.0.1:8082:80')
  assert.equal(routesLoopback(host), '1')
  for (const port of [8081, 8082]) assert.equal((await host.talker.ask({ protocol: 'tcp', address: '127.0.0.1', port })).name, 'c1')
  tsnet(host, 'port', 'rm', 'c1', '-p', '8081:80')
  assert.equal(routesLoopback(host), '1')
  tsnet(host, 'port', 'rm', 'c1', '-p', '8082:80')
  assert.equal(routesLoopback(host), '0')
  assert.equal((await host.outside.talker.ask({ protocol: 'tcp', address: ADDRESSES[4].host, port: 8080 })).name, 'c1')
  host.mustCni('DEL', {})
  assertNothingLeft(host)
})

hostTest("a person's bridge has its own parameters again when the last container is gone", (host) => {
  const parameters = () => ['route_localnet', 'rp_filter'].map((name) => read(host, `ipv4/conf/br-net/${name}`))
  for (const routed of ['0', '1']) {
    host.sh(`ip link add br-net type bridge; ip addr add 10.50.0.1/24 dev br-net; ip link set br-net up`)
    write(host, 'ipv4/conf/br-net/route_localnet', routed)
    write(host, 'ipv4/conf/br-net/rp_filter', '2')
    host.mustCni('ADD', { netns: host.container(`c${routed}`), conf: V4_ONLY, runtimeConfig: publish(8080) })
    assert.deepEqual(parameters(), ['1', '2'])
    assert.equal(read(host, 'ipv6/conf/br-net/disable_ipv6'), '0')
    host.mustCni('DEL', { conf: V4_ONLY })
    assert.deepEqual(parameters(), [routed, '2'])
    host.exec(['ip', 'link', 'del', 'br-net'])
    assertNothingLeft(host)
  }
})

/** Sends datagrams to an address far away, from one that is the container's own or not. */
function send(container: Container, source: string): void {
  container.sh(`ip addr replace ${source}/32 dev lo; for i in 1 2 3; do echo x | socat -u - UDP:${ADDRESSES[4].far}:9,bind=${source}; done`)
}

hostTest('what a container sends from an address that is not routed to it does not leave its bridge', async (host, t) => {
  const container = host.container('c1')
  host.mustCni('ADD', { netns: container, conf: { ...V4_ONLY, ipMasq: false } })
  const sniffer = await Sniffer.start(host.outside, 'uplink', 'udp')
  t.after(() => sniffer.stop())
  const seen = async (source: string) => {
    send(container, source)
    // Whatever went out before this one has been seen when this one is.
    const mark = `10.50.0.2.${40000 + Number(source.split('.')[3])}`
    container.sh(`echo x | socat -u - UDP:${ADDRESSES[4].far}:9,bind=10.50.0.2:${mark.split('.')[4]}`)
    await sniffer.line(new RegExp(`${mark} > `))
    return sniffer.text.includes(`${source}.`)
  }
  for (const source of ['203.0.113.5', '10.99.0.2', '10.99.0.1', '10.51.0.9']) assert.equal(await seen(source), false, source)
  // The proof that the way is there and that it is this switch that closes it.
  write(host, 'ipv4/conf/br-net/rp_filter', '0')
  assert.equal(await seen('203.0.113.6'), true)
  assert.match(host.cni('CHECK', { netns: container, prevResult: {} }).json.msg ?? '', /rp_filter = 1/)
  tsnet(host, 'repair')
  assert.equal(await seen('203.0.113.7'), false)
})

hostTest('a container in two networks answers by both, on ports that either publishes', async (host) => {
  const [container, neighbour] = [host.container('c1'), host.container('c2')]
  host.mustCni('ADD', { id: 'c2', netns: neighbour, conf: V4_ONLY })
  host.mustCni('ADD', { netns: container, conf: V4_ONLY, runtimeConfig: publish(8080) })
  assert.equal(reversePath(host), '1')
  const second = { netns: container, ifname: 'eth1', conf: OTHER, runtimeConfig: publish(8081) }
  host.mustCni('ADD', second)
  await serve(container)
  const assertAnswers = async () => {
    for (const port of [8080, 8081]) {
      for (const from of [host.outside, host]) {
        assert.equal((await from.talker.ask({ protocol: 'tcp', address: ADDRESSES[4].host, port })).name, 'c1', `${from.name} ${port}`)
      }
      assert.equal((await host.talker.ask({ protocol: 'tcp', address: '127.0.0.1', port })).name, 'c1')
    }
  }
  await assertAnswers()
  assert.deepEqual([reversePath(host), reversePath(host, 'br-other')], ['2', '2'])
  host.mustCni('CHECK', { id: 'c2', netns: neighbour, conf: V4_ONLY, prevResult: {} })
  // Strict, it is as well: each interface answers by itself.
  write(host, 'ipv4/conf/br-net/rp_filter', '1')
  await assertAnswers()
  for (const [conf, ifname] of [[V4_ONLY, 'eth0'] as const, [OTHER, 'eth1'] as const]) {
    assert.match(host.cni('CHECK', { netns: container, conf, ifname, prevResult: {} }).json.msg ?? '', /br-net\/rp_filter = 2/)
  }
  assert.match(tsnet(host, 'repair'), /br-net\/rp_filter = 2/)
  await assertAnswers()
  assert.doesNotMatch(tsnet(host, 'repair'), /repaired/)
  host.mustCni('DEL', second)
  for (const id of ['c1', 'c2']) host.mustCni('DEL', { id, conf: V4_ONLY })
  assertNothingLeft(host)
})

hostTest("an ADD that fails leaves the switches of its own bridge and of the container's other networks as they were", (host) => {
  const container = host.container('c1')
  host.mustCni('ADD', { id: 'standing', netns: host.container('standing') })
  container.sh('ip link add eth0 type veth peer name p0')
  assertRefused(host, 'ADD', { netns: container, runtimeConfig: publish(8080) }, 101)
  host.mustCni('ADD', { netns: container, ifname: 'eth5', conf: OTHER })
  container.sh('ip link add eth6 type veth peer name p6')
  assertRefused(host, 'ADD', { netns: container, ifname: 'eth6', runtimeConfig: publish(8080) }, 101)
  assert.deepEqual([reversePath(host), reversePath(host, 'br-other')], ['1', '1'])
})

const ipv6AddressesOf = (place: Place) =>
  place.json<{ ifname: string; addr_info: object[] }>('ip', '-j', '-6', 'addr').filter(({ ifname }) => ifname !== 'lo')

hostTest('links of a network without IPv6 have no address of it, and speak none', async (host, t) => {
  const [container, neighbour] = [host.container('c1'), host.container('c2')]
  const sniffer = await Sniffer.start(container, 'any', 'ip6')
  t.after(() => sniffer.stop())
  const result = host.mustCni('ADD', { netns: container, conf: V4_ONLY })
  host.mustCni('ADD', { id: 'c2', netns: neighbour, conf: V4_ONLY })
  for (const place of [container, neighbour]) assert.deepEqual(ipv6AddressesOf(place), [])
  assert.deepEqual(
    ipv6AddressesOf(host).map(({ ifname }) => ifname),
    ['uplink'],
  )
  const links = ['br-net', ...(result.interfaces ?? []).slice(1, 2).map(({ name }) => name)]
  for (const name of links) assert.equal(read(host, `ipv6/conf/${name}/disable_ipv6`), '1', name)
  // The proof that the frames would be seen.
  write(neighbour, 'ipv6/conf/eth0/disable_ipv6', '0')
  const [own] = neighbour.json<{ address: string }>('ip', '-j', 'link', 'show', 'dev', 'eth0')
  await sniffer.line(/IPv6|ethertype IPv6/)
  assert.doesNotMatch(sniffer.text.replaceAll(new RegExp(`^.*${own?.address}.*$`, 'gm'), ''), /IP6|ethertype IPv6/)
})

hostTest("a container's own address of IPv6 in a network without it is no damage, a link-local one is", (host) => {
  const container = host.container('c1')
  host.mustCni('ADD', { netns: container, conf: V4_ONLY })
  write(container, 'ipv6/conf/eth0/disable_ipv6', '0')
  assert.match(host.cni('CHECK', { netns: container, conf: V4_ONLY, prevResult: {} }).json.msg ?? '', /disable_ipv6 = 1 in the container/)
  assert.match(tsnet(host, 'repair'), /disable_ipv6 = 1/)
  assert.deepEqual(ipv6AddressesOf(container), [])
  write(container, 'ipv6/conf/eth0/disable_ipv6', '0')
  container.sh('ip addr add fd00:aa::1/64 dev eth0 nodad')
  host.mustCni('CHECK', { netns: container, conf: V4_ONLY, prevResult: {} })
  assert.doesNotMatch(tsnet(host, 'repair'), /repaired/)
})

hostTest('a network that gets IPv6 later has it on its bridge, also where IPv6 is off by default', async (host) => {
  const [old, container] = [host.container('old'), host.container('c1')]
  for (const place of [host, container]) write(place, 'ipv6/conf/default/disable_ipv6', '1')
  host.mustCni('ADD', { id: 'old', netns: old, conf: V4_ONLY })
  assert.equal(read(host, 'ipv6/conf/br-net/disable_ipv6'), '1')
  host.mustCni('ADD', { netns: container })
  assert.equal(read(host, 'ipv6/conf/br-net/disable_ipv6'), '0')
  const endpoint = { protocol: 'tcp', address: ADDRESSES[6].far, port: 9000 } as const
  await host.outside.talker.serve(endpoint, 'far')
  assert.equal((await container.talker.ask(endpoint)).name, 'far')
  for (const id of ['old', 'c1']) host.mustCni('CHECK', { id, netns: `/run/netns/${id}`, prevResult: {} })
  for (const id of ['c1', 'old']) host.mustCni('DEL', { id })
  assertNothingLeft(host)
})

hostTest('a bridge without a gateway has neither IPv6 nor a way for sources that are not routed to it', (host) => {
  host.mustCni('ADD', { netns: host.container('c1'), conf: { ...DUAL_STACK, isGateway: false, isDefaultGateway: false, ipMasq: false } })
  assert.equal(read(host, 'ipv6/conf/br-net/disable_ipv6'), '1')
  assert.equal(reversePath(host), '1')
  assert.equal(read(host, 'ipv4/ip_forward'), '0')
  host.mustCni('DEL', {})
  assertNothingLeft(host)
})

hostTest('repair makes switches again that somebody turned, and turns off what nobody needs', async (host) => {
  const container = host.container('c1')
  const result = host.mustCni('ADD', { netns: container, conf: V4_ONLY, runtimeConfig: publish(8080, ADDRESSES[4].host) })
  const veth = result.interfaces?.[1]?.name ?? ''
  const whole = snapshot(host)
  for (const [key, value, wanted] of [
    ['ipv4/conf/br-net/rp_filter', '0', 'rp_filter = 1'],
    ['ipv6/conf/br-net/disable_ipv6', '0', 'disable_ipv6 = 1'],
    [`ipv6/conf/${veth}/disable_ipv6`, '0', 'IPv6 off at the port'],
    ['ipv4/conf/br-net/route_localnet', '1', 'route_localnet = 0'],
  ] as const) {
    write(host, key, value)
    assert.ok(tsnet(host, 'repair', '--dry-run').includes(wanted), key)
    assert.ok(tsnet(host, 'repair').includes(wanted), key)
    await eventually('link-local addresses are gone', () => ipv6AddressesOf(host).length === 1)
    assertSame(snapshot(host), whole, key)
    assert.doesNotMatch(tsnet(host, 'repair'), /repaired/)
  }
})
