import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { DUAL_STACK, type Host, hostTest, UPLINK_MTU } from './host.ts'
import { assertNothingLeft } from './state.ts'

interface LinkJson {
  readonly ifname: string
  readonly mtu: number
  readonly address: string
  readonly operstate: string
  readonly linkinfo?: { readonly info_slave_data?: { readonly hairpin?: boolean; readonly state?: string } }
  readonly addr_info: readonly { readonly local: string; readonly prefixlen: number; readonly scope: string }[]
}

const link = (host: Pick<Host, 'json'>, name: string) => host.json<LinkJson>('ip', '-j', '-d', 'addr', 'show', 'dev', name)[0]
const bridgeMac = (host: Host) => link(host, 'br-net')?.address

hostTest("bridge and veth pair have the MTU of the default route's interface, or the one that is configured", (host) => {
  const netns = host.container('c1')
  for (const [mtu, wanted] of [
    [undefined, UPLINK_MTU],
    [1300, 1300],
  ] as const) {
    const result = host.mustCni('ADD', { netns, conf: { ...DUAL_STACK, mtu } })
    assert.equal(link(netns, 'eth0')?.mtu, wanted)
    for (const { name } of result.interfaces?.slice(0, 2) ?? []) assert.equal(link(host, name)?.mtu, wanted)
    host.mustCni('DEL', { netns })
  }
})

hostTest('the port forwards with hairpin unless the configuration says no', (host) => {
  const netns = host.container('c1')
  for (const [hairpinMode, wanted] of [
    [undefined, true],
    [false, false],
  ] as const) {
    const result = host.mustCni('ADD', { netns, conf: { ...DUAL_STACK, hairpinMode } })
    const port = link(host, result.interfaces?.[1]?.name ?? '')?.linkinfo?.info_slave_data
    assert.equal(port?.hairpin, wanted)
    assert.equal(port?.state, 'forwarding')
    host.mustCni('DEL', { netns })
  }
})

hostTest('the switches of host and container are those of a router and of a host that takes no advertised routes', (host) => {
  const netns = host.container('c1')
  host.mustCni('ADD', { netns })
  const read = (place: Pick<Host, 'exec'>, key: string) => place.exec(['cat', `/proc/sys/net/${key}`]).trim()
  const container = {
    'ipv6/conf/eth0/accept_ra': '0',
    'ipv6/conf/eth0/accept_dad': '0',
    'ipv6/conf/eth0/disable_ipv6': '0',
    'ipv4/conf/eth0/arp_notify': '1',
  }
  for (const [key, value] of Object.entries(container)) assert.equal(read(netns, key), value, key)
  const machine = {
    'ipv4/ip_forward': '1',
    'ipv6/conf/all/forwarding': '1',
    'ipv4/conf/br-net/route_localnet': '0',
    'ipv4/conf/br-net/rp_filter': '1',
    'ipv6/conf/br-net/disable_ipv6': '0',
    'ipv6/conf/br-net/accept_ra': '0',
    'ipv6/conf/uplink/accept_ra': '2',
  }
  for (const [key, value] of Object.entries(machine)) assert.equal(read(host, key), value, key)
  assert.equal(read(host, 'ipv4/conf/uplink/route_localnet'), '0')
})

hostTest('the bridge keeps its MAC when containers come and go', (host) => {
  host.mustCni('ADD', { id: 'first', netns: host.container('first') })
  const mac = bridgeMac(host)
  for (const id of ['a', 'b', 'c']) {
    host.mustCni('ADD', { id, netns: host.container(id), runtimeConfig: { mac: `02:00:00:00:00:0${id}` } })
    assert.equal(bridgeMac(host), mac)
  }
  for (const id of ['first', 'b', 'a']) {
    host.mustCni('DEL', { id })
    assert.equal(bridgeMac(host), mac)
  }
})

hostTest('a bridge of the person is used as it is, and neither it nor its address is deleted', (host) => {
  host.sh(
    'ip link add br-net type bridge; ip link set br-net mtu 1450; ip addr add 10.50.0.1/24 dev br-net; ip addr add 10.88.0.1/24 dev br-net; ip link set br-net up',
  )
  const before = link(host, 'br-net')
  const netns = host.container('c1')
  host.mustCni('ADD', { netns })
  assert.equal(link(netns, 'eth0')?.mtu, 1450)
  host.mustCni('DEL', { netns })
  const after = link(host, 'br-net')
  assert.equal(after?.mtu, 1450)
  const own = (all: LinkJson | undefined) => all?.addr_info.filter(({ local }) => local.startsWith('10.'))
  assert.deepEqual(own(after), own(before))
  host.exec(['ip', 'link', 'del', 'br-net'])
  assertNothingLeft(host)
})

hostTest('a link that is no bridge is not used as one', (host) => {
  host.exec(['ip', 'link', 'add', 'br-net', 'type', 'veth', 'peer', 'name', 'other'])
  const { json } = host.cni('ADD', { netns: host.container('c1') })
  assert.equal(json.code, 7)
  assert.match(json.msg ?? '', /veth/)
})

/** What a second decoder says of the links and addresses; it runs inside the host. */
const DECODER = `
const { createRtNetlink } = require(process.argv[1])
const socket = createRtNetlink({ ref: true })
const text = (bytes) => [...bytes].map((b) => b.toString(16).padStart(2, '0')).join(':')
// One dump after the other: two at once on one socket are more than it can tell apart.
;(async () => {
  const links = await socket.getLinks()
  const addresses = await socket.getAddresses()
  console.log(JSON.stringify({
    links: links.map(({ data, attrs }) => ({ index: data.index, ifname: attrs.ifname, mtu: attrs.mtu, address: text(attrs.address) })),
    addresses: addresses.map(({ data, attrs }) => ({ index: data.index, prefixlen: data.prefixlen, local: text(attrs.local ?? attrs.address) })),
  }))
  process.exit(0)
})()`

hostTest('npm netlink decodes the same links and addresses as ip shows', (host) => {
  host.mustCni('ADD', { netns: host.container('c1') })
  const module = createRequire(join(process.cwd(), 'package.json')).resolve('netlink')
  const decoded = JSON.parse(host.exec([process.execPath, '-e', DECODER, module])) as {
    links: { index: number; ifname: string; mtu: number; address: string }[]
    addresses: { index: number; prefixlen: number; local: string }[]
  }
  const shown = host.json<LinkJson & { ifindex: number }>('ip', '-j', 'addr')
  assert.deepEqual(
    decoded.links.sort((a, b) => a.index - b.index),
    shown.map(({ ifindex, ifname, mtu, address }) => ({ index: ifindex, ifname, mtu, address })).sort((a, b) => a.index - b.index),
  )
  const counts = (entries: readonly { index: number; prefixlen: number }[]) => entries.map(({ index, prefixlen }) => `${index}/${prefixlen}`).sort()
  const addresses = shown.flatMap(({ ifindex, addr_info }) => addr_info.map(({ prefixlen }) => ({ index: ifindex, prefixlen })))
  assert.deepEqual(counts(decoded.addresses), counts(addresses))
  const bridge = decoded.links.find(({ ifname }) => ifname === 'br-net')?.index
  assert.ok(decoded.addresses.some(({ index, local }) => index === bridge && local === '0a:32:00:01'))
})
