import assert from 'node:assert/strict'
import { ADDRESSES, type Container, DUAL_STACK, type Host, hostTest } from './host.ts'
import { ETHERTYPE, ethernet, sendFrames, tcpReset } from './raw-frames.ts'
import { Sniffer } from './sniff.ts'
import { assertNothingLeft, assertRefused, rulesOf } from './state.ts'
import type { Answer, Question } from './talker.ts'

const OTHER = { ...DUAL_STACK, name: 'other', bridge: 'br-other', ipam: { ranges: [[{ subnet: '10.60.0.0/24' }], [{ subnet: 'fd00:60::/64' }]] } }
const WEB = { hostPort: 8080, containerPort: 80, protocol: 'tcp' }
const FAMILIES = [4, 6] as const
/** The addresses of the first three containers of DUAL_STACK, and of the first of OTHER. */
const OWN = { 4: ['10.50.0.2', '10.50.0.3', '10.50.0.4'], 6: ['fd00:50::2', 'fd00:50::3', 'fd00:50::4'] } as const
const GATEWAY = { 4: '10.50.0.1', 6: 'fd00:50::1' } as const
const ANY = { 4: '0.0.0.0', 6: '::' } as const

type Talking = Host | Container | Host['outside']

async function serve(place: Talking, port = 80): Promise<void> {
  for (const family of FAMILIES) await place.talker.serve({ protocol: 'tcp', address: ANY[family], port }, place.name)
}

function ask(place: Talking, address: string, port: number, more: Partial<Question> = {}): Promise<Answer> {
  return place.talker.ask({ protocol: 'tcp', address, port, ...more })
}

async function unreachable(place: Talking, address: string, port: number, more: Partial<Question> = {}): Promise<void> {
  await assert.rejects(ask(place, address, port, { timeoutMs: 300, ...more }), /./, `${place.name} reaches ${address} port ${port}`)
}

/** A machine outside that knows where the containers are. */
function routeToContainers(host: Host): void {
  host.outside.sh('ip route add 10.50.0.0/24 via 10.99.0.1; ip -6 route add fd00:50::/64 via fd00:99::1')
}

function attach(host: Host, id: string, conf: object, portMappings: readonly object[] = []): Container {
  const container = host.container(id)
  host.mustCni('ADD', { id, netns: container, conf, runtimeConfig: { portMappings } })
  return container
}

function detachAll(host: Host, conf: object, ...ids: readonly string[]): void {
  for (const id of ids) host.mustCni('DEL', { id, conf })
}

const ICC_OFF = { ...DUAL_STACK, icc: false }

async function keptApart(host: Host): Promise<void> {
  const [web, job] = [attach(host, 'web', ICC_OFF, [WEB]), attach(host, 'job', ICC_OFF)]
  await serve(web)
  await serve(web, 81)
  await serve(host.outside, 9000)
  for (const family of FAMILIES) {
    await unreachable(job, OWN[family][0], 80)
    await unreachable(job, OWN[family][0], 81)
    for (const address of [ADDRESSES[family].host, GATEWAY[family]]) assert.equal((await ask(job, address, 8080)).name, 'web')
    assert.equal((await ask(host.outside, ADDRESSES[family].host, 8080)).peer, ADDRESSES[family].outside)
    assert.equal((await ask(host, OWN[family][0], 81)).name, 'web')
    assert.equal((await ask(web, ADDRESSES[family].host, 8080)).name, 'web')
    assert.equal((await ask(job, ADDRESSES[family].far, 9000)).name, 'outside')
    // By the gateway a container must not come to its neighbour either.
    job.exec(['ip', 'route', 'replace', `${OWN[family][0]}/${family === 4 ? 32 : 128}`, 'via', GATEWAY[family]])
    await unreachable(job, OWN[family][0], 80)
  }
  host.mustCni('CHECK', { id: 'job', netns: job, conf: ICC_OFF, prevResult: {} })
  detachAll(host, ICC_OFF, 'web', 'job')
  assertNothingLeft(host)
}

hostTest('icc false keeps containers apart, but for published ports (frames of the bridge pass the rules)', keptApart)

hostTest('icc false keeps containers apart, but for published ports (a kernel without br_netfilter)', async (host) => {
  // What such a kernel does and what it shows.
  host.sh('for key in /proc/sys/net/bridge/*; do echo 0 > $key; done; mount -t tmpfs none /proc/sys/net/bridge')
  await keptApart(host)
})

hostTest('an internal network has no way out and none in', async (host) => {
  const internal = { ...DUAL_STACK, internal: true }
  const [web, job, stranger] = [attach(host, 'web', internal), attach(host, 'job', internal), attach(host, 'stranger', OTHER, [WEB])]
  await serve(web)
  await serve(stranger)
  await serve(host.outside, 9000)
  routeToContainers(host)
  assert.deepEqual(
    web.json<{ dst: string }>('ip', '-j', 'route').filter(({ dst }) => dst === 'default'),
    [],
  )
  for (const family of FAMILIES) {
    assert.equal((await ask(job, OWN[family][0], 80)).name, 'web')
    assert.equal((await ask(host, OWN[family][0], 80)).name, 'web')
    await unreachable(host.outside, OWN[family][0], 80)
    await unreachable(stranger, OWN[family][0], 80)
    // Whoever may change routes in the container still does not get out.
    web.exec(['ip', family === 4 ? '-4' : '-6', 'route', 'add', 'default', 'via', GATEWAY[family]])
    await unreachable(web, ADDRESSES[family].far, 9000)
    await unreachable(web, ADDRESSES[family].host, 8080)
    assert.equal((await ask(host.outside, ADDRESSES[family].host, 8080)).name, 'stranger')
  }
  const late = host.container('late')
  const refusal = assertRefused(host, 'ADD', { id: 'late', netns: late, conf: internal, runtimeConfig: { portMappings: [WEB] } }, 7)
  assert.match(refusal.msg ?? '', /port 8080: the network is internal/)
  detachAll(host, internal, 'web', 'job')
  detachAll(host, OTHER, 'stranger')
  assertNothingLeft(host)
})

hostTest('a routed network: containers keep their address, and answer at it on published ports', async (host) => {
  const routed = { ...DUAL_STACK, gatewayMode: 'routed' }
  const [web, job] = [
    attach(host, 'web', routed, [WEB, { ...WEB, hostPort: 8081, containerPort: 81, hostIP: '127.0.0.1' }]),
    attach(host, 'job', routed),
  ]
  for (const port of [80, 81, 82]) await serve(web, port)
  await serve(job)
  await serve(host.outside, 9000)
  routeToContainers(host)
  for (const family of FAMILIES) {
    assert.equal((await ask(host.outside, OWN[family][0], 80)).peer, ADDRESSES[family].outside)
    assert.equal((await ask(host.outside, ADDRESSES[family].host, 8080)).name, 'web')
    assert.equal((await ask(web, ADDRESSES[family].far, 9000)).peer, OWN[family][0])
    for (const port of [81, 82]) await unreachable(host.outside, OWN[family][0], port)
    await unreachable(host.outside, OWN[family][1], 80)
  }
  const twice = [
    { ...WEB, hostPort: 8088 },
    { ...WEB, hostPort: 8089 },
  ]
  assertRefused(host, 'ADD', { id: 'late', netns: host.container('late'), conf: routed, runtimeConfig: { portMappings: twice } }, 7)
  detachAll(host, routed, 'web', 'job')
  assertNothingLeft(host)
})

hostTest('snat: packets leave with the chosen address of each family', async (host) => {
  const conf = { ...DUAL_STACK, snat: [ADDRESSES[6].second, ADDRESSES[4].second] }
  const web = attach(host, 'web', conf)
  await serve(host.outside, 9000)
  for (const family of FAMILIES) assert.equal((await ask(web, ADDRESSES[family].far, 9000)).peer, ADDRESSES[family].second)
  detachAll(host, conf, 'web')
  assertNothingLeft(host)
})

hostTest('trusted: who is named reaches all ports of the containers, others none', async (host) => {
  const conf = { ...DUAL_STACK, trusted: ['10.99.0.0/30', 'fd00:99::/126', 'fd00:99::2/128'] }
  const web = attach(host, 'web', conf)
  for (const port of [80, 81]) await serve(web, port)
  routeToContainers(host)
  for (const family of FAMILIES) {
    for (const port of [80, 81]) assert.equal((await ask(host.outside, OWN[family][0], port)).peer, ADDRESSES[family].outside)
    await unreachable(host.outside, OWN[family][0], 80, { localAddress: ADDRESSES[family].far })
  }
  detachAll(host, conf, 'web')
  assertNothingLeft(host)
})

hostTest('allow: only who is named connects to a published port', async (host) => {
  const allow = ['10.99.0.2', '10.99.0.2/32', 'fd00:99::/64']
  const range = { hostPort: 9000, containerPort: 9000, range: 3, protocol: 'tcp', hostIP: ADDRESSES[4].host, allow: [`${ADDRESSES[4].far}/32`] }
  const web = attach(host, 'web', DUAL_STACK, [{ ...WEB, allow }, { ...WEB, hostPort: 8443 }, range])
  const job = attach(host, 'job', DUAL_STACK)
  for (const port of [80, 9001]) await serve(web, port)
  for (const family of FAMILIES) {
    const { host: address, outside, far } = ADDRESSES[family]
    assert.equal((await ask(host.outside, address, 8080)).peer, outside)
    await assert.rejects(ask(host.outside, address, 8080, { localAddress: far }), { message: 'ECONNREFUSED' })
    await assert.rejects(ask(job, address, 8080), { message: 'ECONNREFUSED' })
    // fd00:99::/64 holds the host's own address, 10.99.0.2 does not.
    if (family === 4) await assert.rejects(ask(host, address, 8080), { message: 'ECONNREFUSED' })
    else assert.equal((await ask(host, address, 8080)).name, 'web')
    for (const localAddress of [outside, far]) assert.equal((await ask(host.outside, address, 8443, { localAddress })).peer, localAddress)
  }
  assert.equal((await ask(host.outside, ADDRESSES[4].host, 9001, { localAddress: ADDRESSES[4].far })).port, 9001)
  await assert.rejects(ask(host.outside, ADDRESSES[4].host, 9001), { message: 'ECONNREFUSED' })
  const refusal = assertRefused(
    host,
    'ADD',
    { id: 'x', netns: host.container('x'), runtimeConfig: { portMappings: [{ ...range, hostPort: 1, range: 1, allow: ['fd00::/8'] }] } },
    7,
  )
  assert.match(refusal.msg ?? '', /"allow" names nobody/)
  detachAll(host, DUAL_STACK, 'web', 'job')
  assertNothingLeft(host)
})

hostTest('allow: in a family of which nobody is named the port is not published', async (host) => {
  const web = attach(host, 'web', DUAL_STACK, [{ ...WEB, allow: ['10.99.0.0/24'] }])
  await serve(web)
  assert.equal((await ask(host.outside, ADDRESSES[4].host, 8080)).name, 'web')
  await assert.rejects(ask(host.outside, ADDRESSES[6].host, 8080), { message: 'ECONNREFUSED' })
})

hostTest('another network sees the address of a client, and reaches published ports alone', async (host) => {
  const [web, job] = [attach(host, 'web', DUAL_STACK, [WEB]), attach(host, 'job', OTHER)]
  await serve(web)
  for (const family of FAMILIES) {
    const peer = family === 4 ? '10.60.0.2' : 'fd00:60::2'
    for (const address of [ADDRESSES[family].host, GATEWAY[family]]) assert.equal((await ask(job, address, 8080)).peer, peer)
    await unreachable(job, OWN[family][0], 80)
  }
})

hostTest('a changed policy changes the rules of the network, and leaves none of the former ones', async (host) => {
  const [open, closed] = [
    { ...DUAL_STACK, trusted: ['10.99.0.0/24'], snat: ADDRESSES[4].second },
    { ...DUAL_STACK, internal: true },
  ]
  const web = attach(host, 'web', open)
  await serve(web)
  routeToContainers(host)
  assert.equal((await ask(host.outside, OWN[4][0], 80)).name, 'web')
  attach(host, 'job', closed)
  await unreachable(host.outside, OWN[4][0], 80)
  attach(host, 'again', open)
  assert.equal((await ask(host.outside, OWN[4][0], 80)).name, 'web')
  detachAll(host, open, 'web', 'job', 'again')
  assertNothingLeft(host)
})

hostTest('a packet that belongs to no connection does not leave with the address of the container', async (host) => {
  const web = attach(host, 'web', DUAL_STACK)
  const [link] = web.json<{ address: string }>('ip', '-j', 'link', 'show', 'eth0')
  const [bridge] = host.json<{ address: string }>('ip', '-j', 'link', 'show', 'br-net')
  const reset = (port: number) => {
    const packet = tcpReset({ source: OWN[4][0], destination: ADDRESSES[4].outside }, port)
    sendFrames(web, 'eth0', [ethernet({ source: link?.address ?? '', destination: bridge?.address ?? '', type: ETHERTYPE.ip }, packet)])
  }
  const sniffer = await Sniffer.start(host.outside, 'uplink', 'tcp')
  await serve(host.outside, 9000)
  reset(7001)
  assert.equal((await ask(web, ADDRESSES[4].outside, 9000)).peer, ADDRESSES[4].host)
  await sniffer.line(/10\.99\.0\.1\.\d+ > 10\.99\.0\.2\.9000/)
  assert.ok(!sniffer.saw(/\.7001/))
  // The proof that it would leave, and that it is our rule that stops it.
  host.sh(DUAL_STACK.backend === 'nftables' ? 'nft flush chain inet tsnet from-open' : 'iptables -F TSNET-DENY')
  reset(7002)
  await sniffer.line(/10\.50\.0\.2\.7002 > 10\.99\.0\.2\.7002/)
  sniffer.stop()
})

hostTest("the administrator's chain comes first, is never written, and outlives the containers", async (host) => {
  const web = attach(host, 'web', DUAL_STACK, [WEB])
  await serve(web)
  const drop =
    DUAL_STACK.backend === 'nftables' ? 'nft add rule inet tsnet tsnet-user ip saddr 10.99.0.2 drop' : 'iptables -A TSNET-USER -s 10.99.0.2 -j DROP'
  host.sh(drop)
  await unreachable(host.outside, ADDRESSES[4].host, 8080)
  assert.equal((await ask(host.outside, ADDRESSES[4].host, 8080, { localAddress: ADDRESSES[4].far })).name, 'web')
  detachAll(host, DUAL_STACK, 'web')
  assert.match(rulesOf(host), DUAL_STACK.backend === 'nftables' ? /saddr 10\.99\.0\.2 drop/ : /-A TSNET-USER -s 10\.99\.0\.2\/32 -j DROP/)
  const next = attach(host, 'next', DUAL_STACK, [WEB])
  await serve(next)
  await unreachable(host.outside, ADDRESSES[4].host, 8080)
  host.sh(DUAL_STACK.backend === 'nftables' ? 'nft flush chain inet tsnet tsnet-user' : 'iptables -F TSNET-USER')
  detachAll(host, DUAL_STACK, 'next')
  assertNothingLeft(host)
})

for (const [key, value] of Object.entries({
  icc: 'no',
  internal: 1,
  gatewayMode: 'open',
  snat: '224.0.0.1',
  trusted: ['10.0.0.0'],
})) {
  hostTest(`a bad "${key}" is refused, and nothing is changed`, (host) => {
    assertRefused(host, 'ADD', { netns: host.container('c1'), conf: { ...DUAL_STACK, [key]: value } }, 7)
  })
}

for (const conf of [
  { internal: true, ipMasq: true },
  { internal: true, trusted: ['10.0.0.0/8'] },
  { ipMasq: false, snat: '10.99.0.3' },
  { isGateway: false, icc: false },
]) {
  hostTest(`what contradicts itself is refused: ${JSON.stringify(conf)}`, (host) => {
    assertRefused(host, 'ADD', { netns: host.container('c1'), conf: { ...DUAL_STACK, ...conf } }, 7)
  })
}
