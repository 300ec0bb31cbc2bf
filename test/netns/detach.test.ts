import assert from 'node:assert/strict'
import { rmSync, writeFileSync } from 'node:fs'
import { DUAL_STACK, type Host, hostTest, TSNET } from './host.ts'
import { assertBookEmpty, assertNothingLeft, assertSame, snapshot, stateFiles } from './state.ts'

const runtimeConfig = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] }
const RECORD = '/run/tsnet/attachments/net/c1:eth0.json'

function attached(host: Host) {
  const netns = host.container('c1')
  return { netns, prevResult: host.mustCni('ADD', { netns, runtimeConfig }) }
}

/** Each in its own words of the runtimes: containerd, CRI's second DEL, podman, a hook. */
hostTest('DEL removes everything, whatever the runtime still knows', (host) => {
  const { netns, prevResult } = attached(host)
  const gone = '/proc/999999999/ns/net'
  const calls = [
    { netns, prevResult, runtimeConfig },
    { netns: '', prevResult, runtimeConfig },
    { netns },
    { netns: '' },
    { netns: gone, prevResult },
    { netns: '/run/netns/never', env: { CNI_NETNS: undefined } },
    { netns, conf: { cniVersion: '0.3.1', name: 'net', type: 'tsnet' } },
    { netns, args: 'NOSUCH=1;BAD', runtimeConfig: { portMappings: 'nonsense' } },
  ]
  for (const [i, call] of calls.entries()) {
    if (i > 0) host.mustCni('ADD', { netns, runtimeConfig })
    assert.equal(host.cni('DEL', call).stdout, '')
    assertNothingLeft(host)
    assert.equal(host.cni('DEL', call).status, 0, 'the second DEL fails')
  }
  assert.deepEqual(
    netns.json<{ ifname: string }>('ip', '-j', 'link').map(({ ifname }) => ifname),
    ['lo'],
  )
})

hostTest('DEL of what never was succeeds and makes nothing', (host) => {
  const before = snapshot(host)
  for (const netns of ['', '/run/netns/none', '/etc/passwd']) host.mustCni('DEL', { id: 'unknown', netns })
  assertSame(snapshot(host), before, 'DEL of nothing made something')
  assert.deepEqual(stateFiles(host), [])
})

hostTest('DEL after the namespace was deleted removes everything', (host) => {
  const { prevResult } = attached(host)
  host.exec(['ip', 'netns', 'del', 'c1'])
  host.mustCni('DEL', { netns: '/run/netns/c1', prevResult })
  assertNothingLeft(host)
})

hostTest('DEL after a failed ADD removes nothing of others', (host) => {
  const { netns } = attached(host)
  const before = snapshot(host)
  const second = host.container('c2')
  const call = { id: 'c2', netns: second, runtimeConfig }
  assert.equal(host.cni('ADD', call).json.code, 103)
  host.mustCni('DEL', call)
  assertSame(snapshot(host), before, 'DEL touched the other attachment')
  host.mustCni('CHECK', { netns, prevResult: {} })
})

const FLUSH = 'for t in iptables ip6tables; do for n in raw nat filter; do $t -t $n -F; $t -t $n -X; done; done'
const DAMAGES: Readonly<Record<string, (host: Host) => void>> = {
  'all rules were flushed': (host) => void host.sh(FLUSH),
  'one chain was emptied': (host) => void host.sh('iptables -t nat -F TSNET-DNAT'),
  'one jump was deleted': (host) => void host.sh('ip6tables -t filter -D FORWARD -j TSNET-FORWARD'),
  'the bridge was deleted': (host) => void host.sh('ip link del br-net'),
  'the veth pair was deleted': (host) => void host.sh('ip netns exec c1 ip link del eth0'),
  'the interface was renamed': (host) => void host.sh('ip netns exec c1 ip link set eth0 down name other'),
  'the port was taken off the bridge': (host) => void host.sh('ip link set dev "$(ls /sys/class/net | grep ^tsn | grep -v ^tsnet)" nomaster'),
  'its record is garbage': (host) => writeFileSync(host.machine.path(RECORD), '{"format":1,'),
  'its record is empty': (host) => writeFileSync(host.machine.path(RECORD), ''),
  'its record was deleted': (host) => rmSync(host.machine.path(RECORD)),
  'everything was damaged at once': (host) => {
    host.sh(`ip link del br-net; ${FLUSH}`)
    rmSync(host.machine.path(RECORD))
  },
}

for (const [name, damage] of Object.entries(DAMAGES)) {
  hostTest(`DEL removes what is left when ${name}, and ADD works again`, (host) => {
    const { netns } = attached(host)
    damage(host)
    host.mustCni('DEL', { netns })
    // A claim whose owner has no record counts for nothing, as the ADD shows that takes the port again.
    assertNothingLeft(host, { deadClaims: /record/.test(name) || /everything/.test(name) })
    host.mustCni('ADD', { netns, runtimeConfig })
    host.mustCni('CHECK', { netns, prevResult: {} })
    host.mustCni('DEL', { netns })
    assertNothingLeft(host)
  })
}

hostTest('DEL succeeds when the whole state folder was deleted, and what carries its mark is gone', (host) => {
  const { netns } = attached(host)
  rmSync(host.machine.path('/run/tsnet'), { recursive: true })
  host.mustCni('DEL', { netns })
  assert.doesNotMatch(host.exec(['iptables-save']), /net\/c1:eth0/)
  const links = host.json<{ ifname: string }>('ip', '-j', 'link').map(({ ifname }) => ifname)
  assert.deepEqual(
    links.filter((ifname) => ifname.startsWith('tsn')),
    [],
  )
  assertBookEmpty(host)
})

hostTest('DEL of one attachment leaves the others of its container, its network and other networks alone', async (host) => {
  const other = { ...DUAL_STACK, name: 'other', bridge: 'br-other', ipam: { subnet: '10.51.0.0/24' } }
  const [c1, c2] = [host.container('c1'), host.container('c2')]
  host.mustCni('ADD', { netns: c1 })
  host.mustCni('ADD', { netns: c1, ifname: 'eth1', conf: { ...other, isDefaultGateway: false } })
  const prevResult = host.mustCni('ADD', { id: 'c2', netns: c2, runtimeConfig })
  host.mustCni('DEL', { netns: c1 })
  host.mustCni('CHECK', { id: 'c2', netns: c2, prevResult })
  host.mustCni('CHECK', { netns: c1, ifname: 'eth1', conf: other, prevResult: {} })
  host.mustCni('DEL', { netns: c1, ifname: 'eth1', conf: other })
  host.mustCni('CHECK', { id: 'c2', netns: c2, prevResult })
  await c2.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port: 80 }, 'c2')
  assert.equal((await host.outside.talker.ask({ protocol: 'tcp', address: '10.99.0.1', port: 8080 })).name, 'c2')
  host.mustCni('DEL', { id: 'c2', netns: c2 })
  assertNothingLeft(host)
})

hostTest('an ADD for an attachment whose container died without DEL replaces it', (host) => {
  const { prevResult } = attached(host)
  host.exec(['ip', 'netns', 'del', 'c1'])
  const again = host.mustCni('ADD', { netns: host.container('c1'), runtimeConfig })
  assert.equal(again.ips?.length, prevResult.ips?.length)
  host.mustCni('DEL', {})
  assertNothingLeft(host)
})

hostTest('a kill while the first record was written does not keep the network: the DEL of either takes the rest', (host) => {
  for (const ids of [
    ['standing', 'c1'],
    ['c1', 'standing'],
  ]) {
    host.mustCni('ADD', { id: 'standing', netns: host.container(`standing-${ids[0]}`) })
    host.sh('echo { > /run/tsnet/attachments/net/c1:eth0.json.new')
    const attachments = JSON.parse(host.exec([TSNET, 'ls', '--json'])) as readonly { containerID: string; status: string }[]
    assert.deepEqual(
      attachments.map(({ containerID, status }) => [containerID, status]),
      [
        ['c1', 'incomplete'],
        ['standing', 'attached'],
      ],
    )
    host.exec([TSNET, 'repair'])
    for (const id of ids) host.mustCni('DEL', { id })
    assertNothingLeft(host)
  }
})
