import assert from 'node:assert/strict'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { answered, startAgent } from './agent-process.ts'
import { givenByUdhcpd, startDaemon, startUdhcpd } from './dhcp-server.ts'
import { ADDRESSES, addressIn, type CniCall, type CniDocument, type Container, type Host, hostTest } from './host.ts'
import { changesOf, killAt, spread } from './kill.ts'
import { eventually } from './machine.ts'
import { assertSame, snapshot, stateFiles } from './state.ts'

const BRIDGE = join(process.cwd(), 'dist/bin/bridge')
const CNI_PATH = `${join(process.cwd(), 'dist/bin')}:/usr/lib/cni`
/** Each costs two calls of the plugin under a tracer. */
const KILL_POINTS = 9
const IPAM = {
  type: 'host-local',
  dataDir: '/run/leases',
  ranges: [[{ subnet: '10.50.0.0/24' }], [{ subnet: 'fd00:50::/64' }]],
}
const L2 = { cniVersion: '1.1.0', name: 'net', type: 'bridge', bridge: 'br-net' }
const CONF = { ...L2, isDefaultGateway: true, ipMasq: true, macspoofchk: true, ipam: IPAM }

const call = (more: CniCall = {}): CniCall => ({ conf: CONF, ...more, program: BRIDGE, env: { CNI_PATH, ...more.env } })
const attach = (host: Host, id: string, more: CniCall = {}): { readonly container: Container; readonly result: CniDocument } => {
  const container = host.container(id)
  return { container, result: host.mustCni('ADD', call({ id, netns: container, ...more })) }
}
const nft = (host: Host) => host.run(['nft', 'list', 'table', 'bridge', 'nat']).stdout
const masquerading = (host: Host) => host.exec(['iptables-save', '-t', 'nat']) + host.exec(['ip6tables-save', '-t', 'nat'])
const leases = (host: Host) => readdirSync(host.machine.path('/run/leases/net')).filter((name) => /^[\da-f]+[.:]/.test(name))
const books = (host: Host) => stateFiles(host).filter((path) => path.startsWith('chained/bridge/'))
const links = (host: Host) => host.json<{ ifname: string }>('ip', '-j', 'link').map(({ ifname }) => ifname)

/** The bridge stays, as the reference plugin's does. */
function assertNothingOf(host: Host): void {
  assert.deepEqual(links(host).sort(), ['br-net', 'lo', 'uplink'])
  assert.doesNotMatch(nft(host), /cni-br-iface/)
  assert.doesNotMatch(masquerading(host), /CNI-/)
  assert.deepEqual(leases(host), [])
  assert.deepEqual(books(host), [])
}

hostTest('bridge: containers reach each other and far machines, and the check of the source MAC address drops what is forged', async (host) => {
  const [first, second] = [attach(host, 'c1'), attach(host, 'c2', { conf: { ...CONF, hairpinMode: true } })]
  await host.outside.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port: 90 }, 'far')
  for (const family of [4, 6] as const) {
    const address = addressIn(first.result, family)
    await first.container.talker.serve({ protocol: 'tcp', address, port: 80 }, 'c1')
    assert.equal((await second.container.talker.ask({ protocol: 'tcp', address, port: 80 })).name, 'c1')
    assert.equal((await host.talker.ask({ protocol: 'tcp', address, port: 80 })).name, 'c1')
  }
  assert.equal((await second.container.talker.ask({ protocol: 'tcp', address: ADDRESSES[4].far, port: 90 })).peer, ADDRESSES[4].host)
  second.container.exec(['ip', 'link', 'set', 'eth0', 'address', '02:00:00:00:00:99'])
  const refused = second.container.run(['ping', '-c', '1', '-W', '1', addressIn(first.result, 4)])
  assert.notEqual(refused.status, 0)
})

hostTest('bridge: an address is announced and reachable as soon as ADD returns', (host) => {
  for (const id of ['c1', 'c2', 'c3']) {
    const { result } = attach(host, id)
    for (const family of [4, 6] as const) host.exec(['ping', '-c', '1', '-W', '1', addressIn(result, family)])
  }
})

hostTest('bridge: DEL works without namespace, without prevResult, with a stale path and twice', async (host) => {
  for (const [id, netns] of [
    ['c1', ''],
    ['c2', '/run/netns/none'],
    ['c3', '/run/stale'],
  ] as const) {
    attach(host, id)
    if (netns === '/run/stale') writeFileSync(host.machine.path(netns), '')
    for (const _ of ['once', 'twice']) host.mustCni('DEL', call({ id, netns }))
    assertNothingOf(host)
  }
  host.mustCni('DEL', call({ id: 'never', netns: '' }))
  // What the reference plugin made, whose namespace is gone.
  const conf = { ...CONF, cniVersion: '1.0.0' }
  const program = '/usr/lib/cni/bridge'
  host.mustCni('ADD', { id: 'c4', netns: host.container('c4'), conf, program, env: { CNI_PATH: '/usr/lib/cni' } })
  assert.match(masquerading(host) + nft(host), /CNI-[\s\S]*cni-br-iface-c4/)
  host.exec(['ip', 'netns', 'del', 'c4'])
  await eventually('the namespace is gone', () => links(host).length === 3)
  host.mustCni('DEL', call({ id: 'c4', netns: '', conf }))
  assertNothingOf(host)
})

hostTest('bridge: ADD is all or nothing', (host) => {
  const netns = host.container('c1')
  const refuse = (conf: object, code: number) => {
    const before = snapshot(host)
    const { status, json } = host.cni('ADD', call({ netns, conf }))
    assert.deepEqual([status, json.code], [1, code], json.msg)
    assertSame(snapshot(host), before, `refused with ${code}`)
    assert.deepEqual(books(host), [])
    assert.deepEqual(netns.json<{ ifname: string }>('ip', '-j', 'link').length, 1)
  }
  const full = { ...IPAM, ranges: [[{ subnet: '10.50.0.0/24', rangeStart: '10.50.0.9', rangeEnd: '10.50.0.9', gateway: '10.50.0.9' }]] }
  refuse({ ...CONF, bridge: 'uplink' }, 7)
  refuse({ ...CONF, ipMasqBackend: 'neither' }, 7)
  refuse({ ...CONF, hairpinMode: true, promiscMode: true }, 7)
  refuse({ ...CONF, disableContainerInterface: true }, 7)
  refuse({ ...CONF, ipam: { type: 'none-such' } }, 7)
  refuse({ ...L2, cniVersion: '0.2.0' }, 7)
  assert.equal(host.cni('ADD', call({ netns, conf: { ...CONF, ipam: full } })).status, 1)
  assert.deepEqual(links(host).sort(), ['lo', 'uplink'])
  // The last step fails: the bridge has an address that is in the way.
  host.sh(`
    ip link add br-net type bridge; ip addr add 10.51.0.1/24 dev br-net; ip link set br-net up
    ip link add port type veth peer name far; ip link set port up master br-net`)
  refuse(CONF, 7)
  assert.deepEqual(leases(host), [])
  assert.doesNotMatch(masquerading(host) + nft(host), /CNI-|cni-br/)
})

hostTest('bridge: an interface that is there is not touched, nor the namespace of the host', (host) => {
  const { container: netns } = attach(host, 'c1')
  assert.equal(host.cni('ADD', call({ netns })).json.code, 101)
  assert.equal(host.cni('ADD', call({ id: 'other', netns })).json.code, 101)
  host.mustCni('DEL', call({ id: 'other', netns, conf: { ...L2, bridge: 'br-other' } }))
  assert.equal(netns.run(['ip', 'link', 'show', 'eth0']).status, 0)
  host.mustCni('DEL', call({ netns }))
  host.exec(['mount', '--bind', '/proc/self/ns/net', host.container('own').path])
  for (const command of ['ADD', 'DEL']) assert.equal(host.cni(command, call({ id: 'own', netns: '/proc/self/ns/net' })).json.code, 8)
})

hostTest('bridge: CHECK names everything that is missing', (host) => {
  const conf = { ...CONF, portIsolation: true }
  const { container: netns, result: prevResult } = attach(host, 'c1', { conf })
  const check = call({ netns, conf, prevResult })
  host.mustCni('CHECK', check)
  assert.equal(host.cni('CHECK', call({ netns, conf })).json.code, 7)
  const end = prevResult.interfaces?.[1]?.name ?? ''
  host.sh(`
    ip link set ${end} type bridge_slave isolated off
    ip addr del fd00:50::1/64 dev br-net
    nft flush chain bridge nat cni-br-iface-c1-eth0-mac
    iptables -t nat -F POSTROUTING`)
  netns.sh('ip addr del 10.50.0.2/24 dev eth0; ip -6 route del default')
  const { json } = host.cni('CHECK', check)
  assert.equal(json.code, 104)
  const said = `${json.msg} ${json.details}`
  for (const lack of ['isolation', 'fd00:50::1/64', 'cni-br-iface-c1-eth0-mac', 'masquerading', '10.50.0.2/24', '::/0'])
    assert.ok(said.includes(lack), `${lack}: ${said}`)
})

hostTest('bridge: GC removes what is not listed, and nothing without a list', (host) => {
  for (const id of ['c1', 'c2', 'c3']) attach(host, id)
  host.exec(['ip', 'netns', 'del', 'c3'])
  host.mustCni('GC', call())
  assert.equal(books(host).length, 3)
  host.mustCni('GC', call({ conf: { ...CONF, 'cni.dev/valid-attachments': [{ containerID: 'c2', ifname: 'eth0' }] } }))
  assert.deepEqual(books(host), ['chained/bridge/net/c2:eth0.json'])
  assert.deepEqual(leases(host).length, 2)
  assert.match(nft(host), /cni-br-iface-c2-eth0/)
  assert.doesNotMatch(nft(host), /cni-br-iface-c[13]/)
  host.mustCni('GC', call({ conf: { ...CONF, 'cni.dev/valid-attachments': [] } }))
  assertNothingOf(host)
})

hostTest('bridge: STATUS tells why ADD cannot succeed', (host) => {
  host.mustCni('STATUS', call({ conf: { ...L2, macspoofchk: true, ipMasq: true } }))
  assert.equal(host.cni('STATUS', call({ conf: { ...L2, bridge: 'uplink' } })).json.code, 7)
  const full = { ...IPAM, ranges: [[{ subnet: '10.50.0.0/24', rangeStart: '10.50.0.9', rangeEnd: '10.50.0.9' }]] }
  host.mustCni('STATUS', call({ conf: { ...CONF, ipam: full } }))
  attach(host, 'c1', { conf: { ...CONF, ipam: full } })
  assert.equal(host.cni('STATUS', call({ conf: { ...CONF, ipam: full } })).json.code, 50)
})

hostTest('bridge: the next ADD clears what a killed one, or a container that ended without DEL, has left', (host) => {
  const { container } = attach(host, 'c1')
  const [path = ''] = books(host)
  const file = host.machine.path(`/run/tsnet/${path}`)
  const { result: _, ...data } = JSON.parse(host.exec(['cat', `/run/tsnet/${path}`])).data
  const entry = { ...JSON.parse(host.exec(['cat', `/run/tsnet/${path}`])), data }
  writeFileSync(file, JSON.stringify(entry))
  host.mustCni('ADD', call({ netns: container }))
  assert.equal(links(host).filter((name) => name.startsWith('veth')).length, 1)
  host.exec(['ip', 'netns', 'del', 'c1'])
  host.exec(['ip', 'netns', 'add', 'c1'])
  host.mustCni('ADD', call({ netns: '/run/netns/c1' }))
  assert.equal(leases(host).length, 2)
  host.mustCni('DEL', call())
  assertNothingOf(host)
})

hostTest('bridge: an interface may stay down, and isolated ports do not reach each other', async (host) => {
  const { container } = attach(host, 'down', { conf: { ...L2, disableContainerInterface: true } })
  assert.doesNotMatch(container.exec(['ip', 'link', 'show', 'eth0']), /[<,]UP[,>]/)
  const conf = { ...CONF, portIsolation: true }
  const [first, second] = [attach(host, 'c1', { conf }), attach(host, 'c2', { conf })]
  await first.container.talker.serve({ protocol: 'tcp', address: addressIn(first.result, 4), port: 80 }, 'c1')
  assert.equal((await host.talker.ask({ protocol: 'tcp', address: addressIn(first.result, 4), port: 80 })).name, 'c1')
  assert.notEqual(second.container.run(['ping', '-c', '1', '-W', '0.3', addressIn(first.result, 4)]).status, 0)
})

hostTest('bridge: DEL takes back an ADD that was killed at any call', (host, t) => {
  const wish = call({ netns: host.container('c1') })
  host.mustCni('ADD', wish)
  host.mustCni('DEL', wish)
  const traced = host.prepare('ADD', wish)
  const points = changesOf(host, traced)
  host.mustCni('DEL', wish)
  const before = snapshot(host)
  let killed = 0
  for (const point of spread(points, KILL_POINTS)) {
    if (killAt(host, traced, point)) killed++
    host.mustCni('DEL', call())
    assertSame(snapshot(host), before, point.text)
    assertNothingOf(host)
  }
  assert.ok(killed > KILL_POINTS / 2, `only ${killed} ADDs were killed`)
  t.diagnostic(`killed at ${killed} of ${points.length} calls`)
})

hostTest('bridge: the agent serves it, also a DEL without namespace, and leaves the IPAM programs of strangers to one shot', async (host) => {
  const agent = await startAgent(host)
  attach(host, 'c1')
  host.exec(['ip', 'netns', 'del', 'c1'])
  host.mustCni('DEL', call({ netns: '/run/netns/c1' }))
  assert.equal(answered(host), 2)
  assertNothingOf(host)
  host.sh('mkdir /run/strange; ln -s /usr/lib/cni/host-local /run/strange/strange')
  const conf = { ...CONF, cniVersion: '1.0.0', ipam: { ...IPAM, type: 'strange' } }
  attach(host, 'c2', { conf, env: { CNI_PATH: '/run/strange' } })
  host.mustCni('DEL', call({ id: 'c2', conf, env: { CNI_PATH: '/run/strange' } }))
  assert.equal(answered(host), 2)
  assertNothingOf(host)
  await agent.stop()
})

hostTest('bridge: a DHCP server on the bridge gives the address, and is told when it is free', async (host) => {
  const server = await startUdhcpd(host, 600)
  await startDaemon(host)
  host.sh('ip link add br-net type bridge; ip link set br-net up; ip link set uplink master br-net')
  const conf = { ...L2, macspoofchk: true, ipam: { type: 'dhcp' } }
  const { container: netns, result } = attach(host, 'c1', { conf })
  const address = addressIn(result, 4)
  assert.ok((givenByUdhcpd(host, server).get(address) ?? 0) > 590)
  netns.exec(['ping', '-c', '1', '-W', '1', ADDRESSES[4].outside])
  assert.equal(host.cni('DEL', call({ netns, conf })).stderr, '')
  await eventually('the server has the address back', () => givenByUdhcpd(host, server).get(address) === 0)
  assert.doesNotMatch(nft(host), /cni-br-iface/)
  assert.deepEqual(books(host), [])
})

hostTest('bridge: ADDs at once make one bridge between them, and one that fails takes nothing from the others', async (host) => {
  const ids = ['c1', 'c2', 'c3', 'c4', 'c5', 'c6']
  // The first host address of its subnet is not the gateway's that the others have.
  const clash = { ...CONF, ipam: { ...IPAM, ranges: [[{ subnet: '10.51.0.0/24' }]] } }
  const conf = (id: string) => (id === 'c3' ? clash : CONF)
  const callOf = (id: string) => call({ id, netns: host.container(id), conf: conf(id) })
  const calls = new Map(ids.map((id) => [id, callOf(id)]))
  const outcomes = await Promise.all([...calls.values()].map((one) => host.cniAsync('ADD', one)))
  const failed = ids.filter((_, i) => outcomes[i]?.status !== 0)
  // Whose gateway came first stays: either the one is refused, or all the others are.
  assert.ok(failed.join() === 'c3' || failed.length === ids.length - 1, `${failed}`)
  for (const [i, { json }] of outcomes.entries()) {
    if (failed.includes(ids[i] ?? '')) assert.equal(json.code, 7)
    else for (const { address } of json.ips ?? []) host.exec(['ping', '-c', '1', '-W', '1', address.replace(/\/.*/, '')])
  }
  assert.equal(books(host).length, ids.length - failed.length)
  await Promise.all([...calls.values()].map((one) => host.cniAsync('DEL', one)))
  assertNothingOf(host)
})
