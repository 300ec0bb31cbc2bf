/** What looks like a plugin's own and is somebody else's: numbers of links, hashes of names, files in folders that others may write to. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { bridged, call, mustCall } from './bridged.ts'
import { linkOf } from './device.ts'
import { hostTest } from './host.ts'

const LIMITS = { egressRate: 16_000_000, egressBurst: 800_000 }
const IPAM = { type: 'host-local', dataDir: '/run/leases', subnet: '10.50.0.0/24' }
const BRIDGE = { type: 'bridge', conf: { bridge: 'br-net', ipam: IPAM } }

hostTest('the veth pair of another container is not taken for one whose links have the same numbers', (host) => {
  const [victim, rogue, far] = [host.container('victim'), host.container('rogue'), host.container('far')]
  mustCall(host, 'ADD', { ...BRIDGE, id: 'victim', netns: victim })
  const { ifindex: inside, link_index: outside } = linkOf(victim, 'eth0') ?? {}
  rogue.sh(`ip link add eth0 index ${inside} type veth peer name peer index ${outside} netns ${far.name}`)
  const prevResult = { cniVersion: '1.1.0', interfaces: [{ name: 'eth0', sandbox: rogue.path }], ips: [] }
  const limited = call(host, 'ADD', { type: 'bandwidth', id: 'rogue', netns: rogue, prevResult, conf: LIMITS })
  assert.match(limited.json.msg ?? '', /it is not the end of a veth pair whose other end is on this host/)
  mustCall(host, 'DEL', { ...BRIDGE, id: 'rogue', netns: rogue })
  assert.notEqual(linkOf(victim, 'eth0'), undefined)
  mustCall(host, 'DEL', { ...BRIDGE, id: 'victim', netns: victim })
  assert.equal(linkOf(victim, 'eth0'), undefined)
})

hostTest('network and container id written one after the other are those of another attachment, whose ifb link stays', (host) => {
  const netns = host.container('c1')
  host.sh(`ip link add port0 type veth peer name eth0 netns ${netns.name}; ip link set port0 up`)
  const prevResult = { cniVersion: '1.1.0', interfaces: [{ name: 'eth0', sandbox: netns.path }], ips: [] }
  const ifb = mustCall(host, 'ADD', { type: 'bandwidth', id: 'c1', netns, prevResult, conf: LIMITS }).interfaces?.at(-1)?.name ?? ''
  mustCall(host, 'DEL', { type: 'bandwidth', id: 'tc1', conf: { ...LIMITS, name: 'ne' } })
  assert.notEqual(linkOf(host, ifb), undefined)
  mustCall(host, 'DEL', { type: 'bandwidth', id: 'c1' })
  assert.equal(linkOf(host, ifb), undefined)
})

hostTest('a link in a folder that others may write to leads no write to another file', (host) => {
  const netns = host.container('c1')
  netns.exec(['ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'peer'])
  const file = (path: string) => host.machine.path(path)
  for (const folder of ['/run/open', '/run/leases/net']) mkdirSync(file(folder), { recursive: true })
  writeFileSync(file('/run/precious'), 'precious')
  for (const link of ['/run/open/c1_eth0.json.new', '/run/leases/net/last_reserved_ip.0']) symlinkSync('/run/precious', file(link))
  const prevResult = { cniVersion: '1.1.0', interfaces: [{ name: 'eth0', sandbox: netns.path }], ips: [] }
  const tuned = { type: 'tuning', id: 'c1', netns, conf: { dataDir: '/run/open', mtu: 1400 }, prevResult }
  assert.equal(call(host, 'ADD', tuned).status, 1)
  mustCall(host, 'ADD', tuned)
  assert.ok(existsSync(file('/run/open/c1_eth0.json')))
  mustCall(host, 'DEL', tuned)
  assert.equal(linkOf(netns, 'eth0')?.mtu, 1500)
  mustCall(host, 'ADD', { type: 'host-local', id: 'c1', netns, conf: { ipam: IPAM } })
  assert.equal(readFileSync(file('/run/leases/net/last_reserved_ip.0'), 'utf8'), '10.50.0.2')
  assert.equal(readFileSync(file('/run/precious'), 'utf8'), 'precious')
})

hostTest('an ADD whose IPAM plugin refuses gives back no address of an attachment that is there', (host) => {
  const [first, second] = [host.container('first'), host.container('second')]
  mustCall(host, 'ADD', { type: 'host-local', id: 'c1', netns: first, conf: { ipam: IPAM } })
  assert.equal(call(host, 'ADD', { ...BRIDGE, id: 'c1', netns: second }).status, 1)
  assert.ok(readdirSync(host.machine.path('/run/leases/net')).includes('10.50.0.2'))
})

hostTest('network and container id written one after the other are those of another attachment, whose rules stay', (host) => {
  const { container, result } = bridged(host, 'c1', 2)
  const rules = () =>
    host
      .exec(['iptables-save', '-t', 'nat'])
      .split('\n')
      .filter((line) => line.startsWith('-A'))
  const runtimeConfig = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] }
  mustCall(host, 'ADD', { type: 'portmap', id: 'c1', netns: container, prevResult: result, runtimeConfig, conf: { backend: 'iptables' } })
  const other = host.container('other')
  const masquerading = { bridge: 'br-net', ipMasq: true, ipMasqBackend: 'iptables', ipam: IPAM }
  mustCall(host, 'ADD', { type: 'bridge', id: 'c2', netns: other, conf: masquerading })
  const before = rules()
  mustCall(host, 'DEL', { type: 'portmap', id: 'tc1', conf: { name: 'ne' } })
  mustCall(host, 'DEL', { type: 'bridge', id: 'tc2', conf: { ...masquerading, name: 'ne' } })
  assert.deepEqual(rules(), before)
  mustCall(host, 'DEL', { type: 'portmap', id: 'c1' })
  mustCall(host, 'DEL', { type: 'bridge', id: 'c2', conf: masquerading })
  assert.doesNotMatch(rules().join('\n'), /CNI-DN-|id: /)
})

hostTest('an ADD that fails because the attachment is there forgets nothing of it', (host) => {
  const netns = host.container('c1')
  host.sh(`ip link add port0 type veth peer name eth0 netns ${netns.name}; ip link set port0 up`)
  const prevResult = { cniVersion: '1.1.0', interfaces: [{ name: 'eth0', sandbox: netns.path }], ips: [] }
  const request = { type: 'bandwidth', id: 'c1', netns, prevResult, conf: LIMITS }
  const ifb = mustCall(host, 'ADD', request).interfaces?.at(-1)?.name ?? ''
  assert.equal(call(host, 'ADD', request).status, 1)
  mustCall(host, 'GC', { type: 'bandwidth', conf: { 'cni.dev/valid-attachments': [] } })
  assert.equal(linkOf(host, ifb), undefined)
})

hostTest('a DEL whose CNI_NETNS has come to be another namespace goes by the one that ADD was given', (host) => {
  const [first, second] = [host.container('first'), host.container('second')]
  mustCall(host, 'ADD', { type: 'tap', id: 'a', netns: first })
  mustCall(host, 'ADD', { type: 'tap', id: 'b', netns: second })
  mustCall(host, 'DEL', { type: 'tap', id: 'a', netns: second })
  assert.deepEqual([linkOf(first, 'eth0'), linkOf(second, 'eth0')?.linkinfo?.info_kind], [undefined, 'tun'])
  assert.equal(call(host, 'DEL', { type: 'tap', id: 'b', netns: '/proc/self/ns/net' }).json.code, 8)
  mustCall(host, 'DEL', { type: 'tap', id: 'b' })
  assert.equal(linkOf(second, 'eth0'), undefined)
})
