import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type CniCall, type Container, type Host, hostTest } from './host.ts'

const program = (type: string) => join(process.cwd(), 'dist/bin', type)

/** An interface as a plugin before would have made it. */
function prepare(host: Host, name: string): { readonly netns: Container; readonly prevResult: object } {
  const netns = host.container(name)
  netns.sh(`
    ip link add eth0 type veth peer name other; ip link set other up
    echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad; ip link set eth0 up
    ip addr add 10.60.0.2/24 dev eth0; ip addr add 10.60.1.2/24 dev eth0; ip route add default via 10.60.0.1`)
  const ips = ['10.60.0.2/24', '10.60.1.2/24'].map((address) => ({ address, interface: 0 }))
  return { netns, prevResult: { cniVersion: '1.1.0', interfaces: [{ name: 'eth0', mac: '02:00:00:00:00:01', sandbox: netns.path }], ips } }
}

const tuned = (config: object): CniCall => ({ program: program('tuning'), conf: { cniVersion: '1.1.0', name: 'net', type: 'tuning', ...config } })
const backups = (host: Host) => host.sh('ls /run/cni/tuning 2>/dev/null || true').trim()

hostTest('tuning: ADD changes all or nothing, CHECK sees what somebody changed, DEL sets back', (host) => {
  const { netns, prevResult } = prepare(host, 'c1')
  const link = () => host.json<object>('nsenter', `--net=${netns.path}`, 'ip', '-j', '-d', 'link', 'show', 'eth0')
  const before = JSON.stringify(link())
  const sysctl = { 'net.ipv4.conf.IFNAME.accept_redirects': '0', 'net.ipv4.conf.IFNAME.none_such': '1' }
  const refused = host.cni('ADD', { ...tuned({ sysctl, mtu: 1300 }), netns, prevResult })
  assert.equal(refused.json.code, 7, refused.stdout)
  const tooLarge = host.cni('ADD', {
    ...tuned({ sysctl: { 'net.ipv4.conf.IFNAME.accept_redirects': '0' }, promisc: true, mtu: 100_000 }),
    netns,
    prevResult,
  })
  assert.equal(tooLarge.status, 1)
  assert.equal(JSON.stringify(link()), before)
  assert.equal(netns.exec(['cat', '/proc/sys/net/ipv4/conf/eth0/accept_redirects']).trim(), '1')
  assert.equal(backups(host), '')

  const call = { ...tuned({ mtu: 1300, txQLen: 77, mac: '02:AA:bb:00:00:07' }), netns, prevResult }
  const result = host.mustCni('ADD', call)
  assert.equal(result.interfaces?.[0]?.mac, '02:aa:bb:00:00:07')
  const [told] = (prevResult as { readonly interfaces: readonly object[] }).interfaces
  const again = host.mustCni('ADD', { ...call, prevResult: { ...prevResult, interfaces: [{ ...told, mtu: 1500 }] } })
  assert.deepEqual([result.interfaces?.[0]?.mtu, again.interfaces?.[0]?.mtu], [undefined, 1300])
  assert.match(netns.exec(['ip', 'route']), /default via 10\.60\.0\.1/)
  host.mustCni('CHECK', { ...call, prevResult: result })
  netns.sh('ip link set eth0 txqueuelen 78')
  const check = host.cni('CHECK', { ...call, prevResult: result })
  assert.equal(check.json.code, 104)
  assert.match(check.json.msg ?? '', /txQLen is 78, not 77/)
  host.mustCni('DEL', { ...call, netns: '' })
  assert.equal(JSON.stringify(link()), before)
  assert.equal(backups(host), '')
})

hostTest('tuning: keys that occur twice, that leave net, or that the allow-list does not know are refused', (host) => {
  const { netns, prevResult } = prepare(host, 'c1')
  const text = (sysctl: string) => `{"cniVersion":"1.1.0","name":"net","type":"tuning","sysctl":${sysctl},"prevResult":${JSON.stringify(prevResult)}}`
  const codeOf = (conf: string | object) => host.cni('ADD', { program: program('tuning'), netns, conf }).json.code
  assert.equal(codeOf(text('{"net.core.somaxconn":"1","net.core.somaxconn":"2"}')), 7)
  for (const key of [
    'kernel.hostname',
    'net/../kernel/hostname',
    'net',
    'net.',
    '/net/core/somaxconn',
    'net/core//somaxconn',
    '../sys/net/core/somaxconn',
    'net\\u0000',
  ])
    assert.equal(codeOf(text(JSON.stringify({ [key]: '1' }).replace('\\\\u', '\\u'))), 7, key)
  host.sh("mount -t tmpfs tmpfs /etc; mkdir -p /etc/cni/tuning; printf '^net.core.\\n\\n' > /etc/cni/tuning/allowlist.conf")
  assert.equal(codeOf(text('{"net.ipv4.conf.IFNAME.accept_redirects":"1"}')), 7)
  assert.equal(codeOf(text('{"net.core.somaxconn":"99"}')), undefined)
})

hostTest('tuning: GC forgets the settings of attachments that are not listed; a vanished namespace keeps no backup', (host) => {
  for (const id of ['c1', 'c2', 'c3']) {
    const { netns, prevResult } = prepare(host, id)
    host.mustCni('ADD', { ...tuned({ mtu: 1300 }), id, netns, prevResult })
  }
  assert.equal(backups(host), 'c1_eth0.json\nc2_eth0.json\nc3_eth0.json')
  host.sh('ip netns del c1')
  host.mustCni('DEL', { ...tuned({ mtu: 1300 }), id: 'c1', netns: '/run/netns/c1' })
  host.mustCni('GC', tuned({}))
  assert.equal(backups(host), 'c2_eth0.json\nc3_eth0.json')
  host.mustCni('GC', tuned({ 'cni.dev/valid-attachments': [{ containerID: 'c3', ifname: 'eth0' }] }))
  assert.equal(backups(host), 'c3_eth0.json')
})

hostTest('sbr: each address has a table of its own, CHECK misses a rule, DEL needs neither namespace nor prevResult', (host) => {
  const { netns, prevResult } = prepare(host, 'c1')
  const before = netns.exec(['ip', 'rule'])
  const call = {
    program: program('sbr'),
    netns,
    prevResult,
    conf: { cniVersion: '1.1.0', name: 'net', type: 'sbr', gateways: ['10.60.0.1'], addSourceHints: true },
  }
  host.mustCni('ADD', call)
  assert.match(
    netns.exec(['ip', 'rule']),
    /from 10\.60\.0\.2 lookup 100[\s\S]*from 10\.60\.1\.2 lookup 101|from 10\.60\.1\.2 lookup 101[\s\S]*from 10\.60\.0\.2 lookup 100/,
  )
  assert.match(netns.exec(['ip', 'route', 'show', 'table', '100']), /default via 10\.60\.0\.1 dev eth0 src 10\.60\.0\.2/)
  assert.equal(netns.exec(['ip', 'route']).trim(), '')
  host.mustCni('CHECK', call)
  netns.sh('ip rule del from 10.60.1.2')
  const check = host.cni('CHECK', call)
  assert.equal(check.json.code, 104)
  assert.match(check.json.msg ?? '', /policy rule for 10\.60\.1\.2 is missing/)
  host.mustCni('DEL', { ...call, netns: '', prevResult: {} })
  assert.equal(netns.exec(['ip', 'rule']), before)
  for (const path of ['', '/run/netns/none']) host.mustCni('DEL', { ...call, netns: path })
  assert.equal(host.run(['test', '-e', '/run/netns/none']).status, 1)
})

hostTest('sbr: a table that is in use, a gateway of nowhere and a missing address are refused whole', (host) => {
  const { netns, prevResult } = prepare(host, 'c1')
  const state = () => `${netns.exec(['ip', 'rule'])}${netns.exec(['ip', 'route', 'show', 'table', 'all'])}`
  const before = state()
  const conf = { cniVersion: '1.1.0', name: 'net', type: 'sbr' }
  const refuse = (more: object, previous: object = prevResult) =>
    host.cni('ADD', { program: program('sbr'), netns, prevResult: previous, conf: { ...conf, ...more } })
  assert.equal(refuse({ gateways: ['10.99.99.1'] }).status, 1)
  assert.equal(state(), before)
  assert.equal(refuse({ gateways: ['x'] }).json.code, 7)
  assert.equal(refuse({}, { ...prevResult, ips: [] }).json.code, 7)
  netns.sh('ip rule add from 10.1.1.1 lookup 100; ip route add 10.2.0.0/16 dev eth0 table 101')
  host.mustCni('ADD', { program: program('sbr'), netns, prevResult, conf })
  assert.match(netns.exec(['ip', 'rule']), /from 10\.60\.0\.2 lookup 102/)
})

hostTest('a plugin refuses its own namespace before it acts, unless CNI_NETNS_OVERRIDE allows it', (host) => {
  const value = () => host.exec(['cat', '/proc/sys/net/core/somaxconn']).trim()
  const before = value()
  const call = { ...tuned({ sysctl: { 'net.core.somaxconn': '99' } }), netns: '/proc/self/ns/net', prevResult: { cniVersion: '1.1.0' } }
  assert.equal(host.cni('ADD', call).json.code, 8)
  assert.equal(value(), before)
  host.mustCni('ADD', { ...call, env: { CNI_NETNS_OVERRIDE: 'true' } })
  assert.equal(value(), '99')
})
