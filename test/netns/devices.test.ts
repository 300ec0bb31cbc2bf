import assert from 'node:assert/strict'
import { join } from 'node:path'
import { answered, startAgent } from './agent-process.ts'
import { Device, linkOf, linksOf } from './device.ts'
import { startDaemon, startDnsmasq } from './dhcp-server.ts'
import { type CniDocument, hostTest } from './host.ts'
import { changesOf, killAt, spread } from './kill.ts'
import { assertSame, stateFiles } from './state.ts'

const MACVLAN = { type: 'macvlan', ipam: true }
const KILL_POINTS = 5
const VALID = (...ids: readonly string[]) => ({ 'cni.dev/valid-attachments': ids.map((containerID) => ({ containerID, ifname: 'eth0' })) })

hostTest('macvlan: an interface on the one that the default route leaves by reaches the machine outside', (host) => {
  const netns = host.container('c1')
  const device = new Device(host, { ...MACVLAN, mtu: 1300, bcqueuelen: 2000 })
  const mac = '02:00:00:00:00:99'
  const result = device.must('ADD', { netns, args: `IgnoreUnknown=1;MAC=${mac};K8S_POD_NAME=a` })
  assert.deepEqual(result.interfaces, [{ name: 'eth0', mac, mtu: 1300, sandbox: netns.path }])
  assert.deepEqual(result.ips, [{ interface: 0, address: '10.99.0.50/24', gateway: '10.99.0.2' }])
  assert.deepEqual(result.dns, { nameservers: ['10.99.0.2'], search: ['example.test'] })
  const link = linkOf(netns, 'eth0')
  assert.equal(link?.linkinfo?.info_kind, 'macvlan')
  assert.equal(link?.linkinfo?.info_data?.['mode'], 'bridge')
  assert.equal(link?.linkinfo?.info_data?.['bcqueuelen'], 2000)
  assert.deepEqual([link?.mtu, link?.address, link?.link_index], [1300, mac, linkOf(host, 'uplink')?.ifindex])
  for (const key of ['ipv4/conf/eth0/arp_notify', 'ipv6/conf/eth0/ndisc_notify'])
    assert.equal(netns.exec(['cat', `/proc/sys/net/${key}`]).trim(), '1')
  netns.exec(['ping', '-c1', '-W3', '10.77.0.1'])
  device.must('CHECK', { netns, prevResult: result })
  assert.equal(device.leases(), 'c1:eth0')
  assert.equal(device.call('ADD', { netns }).json.code, 101)
  device.must('DEL', { netns, prevResult: result })
  assert.deepEqual([linksOf(netns).map(({ ifname }) => ifname), device.leases(), stateFiles(host)], [['lo'], '', []])
  device.must('DEL', { netns })
})

hostTest('a refused ADD leaves nothing, and says why in its code', (host) => {
  const netns = host.container('c1')
  const device = new Device(host, MACVLAN)
  const all = () => ({ host: linksOf(host), container: linksOf(netns), files: stateFiles(host), leases: device.leases() })
  const before = all()
  netns.sh('ip link add taken type veth peer name taken2')
  const withTaken = all()
  for (const [what, code, call] of [
    ['IPAM', 11, {}],
    ['an unknown mode', 7, { conf: { mode: 'hairpin' } }],
    ["more than the master's MTU", 7, { conf: { mtu: 1401 } }],
    ['an unknown master', 7, { conf: { master: 'eth9' } }],
    ['a multicast address', 7, { runtimeConfig: { mac: '01:00:5e:00:00:01' } }],
    ['its own namespace', 8, { netns: '/proc/self/ns/net' }],
    ['no namespace', 8, { netns: '/run/netns/gone' }],
    ['a taken name', 101, { ifname: 'taken' }],
  ] as const) {
    device.fail('ADD', true)
    const { json, status } = device.call('ADD', { netns, ...call })
    assert.deepEqual([status, json.code], [1, code], `${what}: ${json.msg}`)
    assertSame(all(), withTaken, what)
  }
  netns.sh('ip link del taken')
  assertSame(all(), before, 'all')
  assert.match(device.call('ADD', { netns, conf: { mtu: 1401 } }).json.msg ?? '', /invalid MTU 1401, must be \[0, master MTU\(1400\)\]/)
})

hostTest('DEL needs neither namespace nor master nor default route, and is refused in its own namespace', (host) => {
  const device = new Device(host, MACVLAN)
  const own = device.call('DEL', { netns: '/proc/self/ns/net', ifname: 'uplink' })
  assert.deepEqual([own.json.code, linkOf(host, 'uplink') === undefined], [8, false])
  const c1 = host.container('c1')
  device.must('ADD', { netns: c1 })
  host.sh('ip route flush default; ip -6 route flush default')
  device.must('DEL', { netns: '' })
  assert.deepEqual([linksOf(c1).length, device.leases(), stateFiles(host)], [1, '', []])

  device.must('ADD', { netns: c1, conf: { master: 'uplink' } })
  host.sh('ip netns del c1')
  device.must('DEL', { netns: c1 })
  assert.deepEqual([device.leases(), stateFiles(host)], ['', []])

  const c2 = host.container('c2')
  device.must('ADD', { netns: c2, conf: { master: 'uplink' } })
  host.sh('ip link del uplink')
  device.must('DEL', { netns: c2, conf: { master: 'uplink' } })
  assert.deepEqual([linksOf(c2).length, device.leases(), stateFiles(host)], [1, '', []])
})

hostTest('DEL goes on after a failure, says it, and leaves another plugin its interface', (host) => {
  const netns = host.container('c1')
  const device = new Device(host, { ...MACVLAN, master: 'uplink' })
  device.must('ADD', { netns })
  device.fail('DEL')
  const { json } = device.call('DEL', { netns })
  assert.match(json.msg ?? '', /no address left/)
  assert.equal(linksOf(netns).length, 1)
  assert.deepEqual(stateFiles(host), ['chained/macvlan/net/c1:eth0.json'])
  device.fail('DEL', false)
  netns.sh('ip link add eth0 type veth peer name other')
  device.must('DEL', { netns })
  assert.deepEqual([linksOf(netns).length, device.leases(), stateFiles(host)], [3, '', []])
})

hostTest('a container that died without DEL does not keep its successor from starting', (host) => {
  const device = new Device(host, { ...MACVLAN, master: 'uplink' })
  device.must('ADD', { netns: host.container('c1') })
  device.asked()
  host.sh('ip netns del c1')
  const netns = host.container('c2')
  device.must('ADD', { netns })
  assert.deepEqual(device.asked(), ['DEL c1', 'ADD c1'])
  assert.equal(linksOf(netns).length, 2)
})

hostTest('GC takes interfaces and leases of what is not listed, and asks IPAM; no list at all takes nothing', (host) => {
  const device = new Device(host, { ...MACVLAN, master: 'uplink' })
  const containers = ['c1', 'c2', 'c3'].map((id) => {
    const netns = host.container(id)
    device.must('ADD', { id, netns })
    return netns
  })
  host.sh('ip netns del c3')
  device.asked()
  device.must('GC')
  assert.equal(device.leases().split('\n').length, 3)
  device.must('GC', { conf: VALID('c1') })
  assert.deepEqual(device.asked(), ['DEL c2', 'DEL c3', 'GC'])
  assert.deepEqual(
    containers.slice(0, 2).map((netns) => linksOf(netns).length),
    [2, 1],
  )
  assert.equal(device.leases(), 'c1:eth0')
  device.must('GC', { conf: VALID() })
  assert.deepEqual([device.leases(), stateFiles(host)], ['', []])
})

hostTest('CHECK says everything that is wrong, and STATUS why no ADD can succeed', (host) => {
  const netns = host.container('c1')
  const device = new Device(host, { ...MACVLAN, master: 'uplink', mode: 'private' })
  device.must('STATUS')
  const prevResult = device.must('ADD', { netns })
  device.must('CHECK', { netns, prevResult })
  assert.equal(device.call('CHECK', { netns }).json.code, 7)
  netns.sh('ip link set eth0 address 02:00:00:00:00:07; ip route del default; ip addr del 10.99.0.50/24 dev eth0')
  const wrong = device.call('CHECK', { netns, prevResult }).json
  assert.equal(wrong.code, 104)
  for (const text of [/MAC address is 02:00:00:00:00:07/, /10\.99\.0\.50\/24 is missing/, /route to 0\.0\.0\.0\/0 is missing/])
    assert.match(wrong.msg ?? '', text)
  assert.match(device.call('CHECK', { netns, prevResult, conf: { mode: 'vepa' } }).json.msg ?? '', /its mode is another/)
  host.sh('ip link add uplink2 type veth peer name uplink3')
  assert.match(device.call('CHECK', { netns, prevResult, conf: { master: 'uplink2' } }).json.msg ?? '', /does not stand on "uplink2"/)
  assert.match(device.call('CHECK', { netns, prevResult, conf: { master: 'eth9' } }).json.msg ?? '', /master "eth9" is gone/)
  netns.sh('ip link del eth0')
  assert.match(device.call('CHECK', { netns, prevResult }).json.msg ?? '', /does not exist/)
  device.must('DEL', { netns })
  device.fail('STATUS')
  assert.equal(device.call('STATUS').json.code, 11)
  device.fail('STATUS', false)
  assert.equal(device.call('STATUS', { conf: { master: 'eth9' } }).json.code, 50)
})

hostTest('linkInContainer: the master is an interface of the container', (host) => {
  const netns = host.container('c1')
  netns.sh('ip link add below type veth peer name peer; ip link set below up; ip link set peer up')
  const device = new Device(host, { type: 'macvlan', master: 'below', linkInContainer: true, mode: 'vepa' })
  const prevResult = device.must('ADD', { netns })
  const link = linkOf(netns, 'eth0')
  assert.deepEqual([link?.link, link?.flags.includes('UP')], ['below', true])
  assert.deepEqual(prevResult.ips, undefined)
  device.must('CHECK', { netns, prevResult })
  device.must('DEL', { netns })
  assert.equal(linkOf(netns, 'eth0'), undefined)
})

hostTest('the agent serves interfaces, and leaves a stranger that it may wait for to one shot', async (host) => {
  const agent = await startAgent(host)
  const netns = host.container('c1')
  const alone = new Device(host, { type: 'macvlan', master: 'uplink' })
  const prevResult = alone.must('ADD', { netns })
  alone.must('CHECK', { netns, prevResult })
  assert.equal(alone.call('ADD', { netns }).json.code, 101)
  assert.equal(alone.call('DEL', { netns: '/proc/self/ns/net' }).json.code, 8)
  alone.must('DEL', { netns })
  alone.must('ADD', { netns })
  host.sh('ip netns del c1')
  alone.must('DEL', { netns })
  assert.deepEqual([answered(host), stateFiles(host).filter((path) => path.startsWith('chained/'))], [7, []], agent.log())
  const leased = new Device(host, { ...MACVLAN, master: 'uplink' })
  const other = host.container('c2')
  leased.must('ADD', { netns: other })
  leased.must('DEL', { netns: other })
  assert.deepEqual([answered(host), linksOf(other).length, leased.leases()], [7, 1, ''])
  // An address of IPv6 with a gateway may be another machine's, which takes a second to find out: nothing of the attempt is left.
  const ranges = [[{ subnet: '10.98.0.0/24' }], [{ subnet: 'fd00:98::/64' }]]
  const ipam = (count: number) => ({ type: 'host-local', dataDir: '/run/host-local', ranges: ranges.slice(0, count) })
  for (const [families, served] of [
    [1, 9],
    [2, 10],
  ] as const) {
    const { ips } = alone.must('ADD', { netns: other, conf: { ipam: ipam(families) } })
    assert.equal(ips?.length, families)
    assert.equal(host.sh('ls /run/host-local/net | grep -c "^[0-9f].*[0-9]$"').trim(), String(families))
    alone.must('DEL', { netns: other, conf: { ipam: ipam(families) } })
    assert.deepEqual([answered(host), linksOf(other).length], [served, 1])
  }
})

hostTest('macvlan with dhcp: the server gives the address and gets it back', async (host) => {
  const server = await startDnsmasq(host, '--dhcp-range=10.99.0.100,10.99.0.105,255.255.255.0,2m')
  await startDaemon(host)
  const netns = host.container('c1')
  const device = new Device(host, { type: 'macvlan', master: 'uplink' })
  const conf = { ipam: { type: 'dhcp' } }
  const prevResult = device.must('ADD', { netns, conf })
  assert.match(prevResult.ips?.[0]?.address ?? '', /^10\.99\.0\.10\d\/24$/)
  netns.exec(['ping', '-c1', '-W3', '10.99.0.2'])
  device.must('CHECK', { netns, conf, prevResult })
  device.must('DEL', { netns, conf })
  assert.equal(linksOf(netns).length, 1)
  await server.says(/DHCPRELEASE/)
})

hostTest('an ADD whose answer was lost is done again by the same request', (host) => {
  const netns = host.container('c1')
  const device = new Device(host, { ...MACVLAN, master: 'uplink' })
  const { env, input } = host.prepare('ADD', device.full({ netns }))
  const add = () =>
    host.exec([process.execPath, join(process.cwd(), 'dist/plugins.cjs'), 'macvlan'], { env: { ...env, TSNET_REQUEST: '0123456789abcdef' }, input })
  add()
  add()
  assert.deepEqual(device.asked(), ['ADD c1', 'DEL c1', 'ADD c1'])
  assert.deepEqual([linksOf(netns).length, device.leases()], [2, 'c1:eth0'])
})

for (const type of ['macvlan', 'host-device']) {
  hostTest(`${type}: after an ADD that was killed at any point, DEL leaves nothing, and another ADD succeeds`, (host) => {
    host.sh('ip link add nic0 address 02:00:00:00:00:05 type veth peer name nic0-peer')
    const netns = host.container('c1')
    const device = new Device(host, { type, ipam: true, ...(type === 'macvlan' ? { master: 'uplink' } : { device: 'nic0' }) })
    // A file that was being written counts for nothing.
    const files = () => stateFiles(host).filter((path) => !path.endsWith('.new'))
    const left = () => [linksOf(netns).length, device.leases(), files(), linkOf(host, 'nic0')?.ifalias, linksOf(host).length]
    const before = left()
    const call = device.full({ netns })
    const traced = host.prepare('ADD', call)
    const points = spread(changesOf(host, traced), KILL_POINTS)
    device.must('DEL', { netns })
    for (const [i, point] of points.entries()) {
      const killed = killAt(host, traced, point)
      const { json } = i % 2 === 0 ? device.call('ADD', { netns }) : { json: {} as CniDocument }
      // One that had done all but answer is refused, since no agent was asked.
      assert.ok(json.code === undefined || (json.code === 101 && (!killed || i === points.length - 1)), `killed at ${point.text}: ${json.msg}`)
      device.must('DEL', { netns: i % 3 === 0 ? '' : netns })
      assert.deepEqual({ point, left: left() }, { point, left: before })
    }
  })
}
