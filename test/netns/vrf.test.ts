import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type Difference, differentialTest } from './differential.ts'
import { type CniCall, type Container, type Host, hostTest } from './host.ts'
import { skipsWithout } from './kernel-feature.ts'

/** Two interfaces, as plugins before would have made them. */
function prepare(_host: Host, container: Container): void {
  container.sh(`
    for i in 0 1; do
      ip link add eth$i type veth peer name other$i; ip link set other$i up
      echo 0 > /proc/sys/net/ipv6/conf/eth$i/accept_dad; ip link set eth$i up
      ip addr add 10.6$i.0.2/24 dev eth$i; ip addr add fd00:6$i::2/64 dev eth$i nodad
    done
    ip route add default via 10.60.0.1; ip -6 route add default via fd00:60::1`)
}

const prevResult = (container: Container) => ({
  cniVersion: '1.0.0',
  interfaces: [{ name: 'eth0', mac: '02:00:00:00:00:01', sandbox: container.path }],
  ips: [{ address: '10.60.0.2/24', gateway: '10.60.0.1', interface: 0 }],
})

const call = (netns: Container, config: object, ifname = 'eth0'): CniCall => ({
  program: join(process.cwd(), 'dist/bin/vrf'),
  netns,
  ifname,
  prevResult: prevResult(netns),
  conf: { cniVersion: '1.1.0', name: 'net', type: 'vrf', ...config },
})

hostTest('vrf: an interface is a member with its addresses and routes, the last one takes the router along', (host, t) => {
  const netns = host.container('c1')
  if (skipsWithout('vrf', netns, t)) return
  prepare(host, netns)
  const [first, second] = [call(netns, { vrfname: 'blue' }), call(netns, { vrfname: 'blue' }, 'eth1')]
  host.mustCni('ADD', first)
  host.mustCni('ADD', second)
  assert.match(netns.exec(['ip', '-d', 'link', 'show', 'blue']), /vrf table 1 /)
  assert.match(netns.exec(['ip', 'route', 'show', 'vrf', 'blue']), /default via 10\.60\.0\.1 dev eth0/)
  assert.match(netns.exec(['ip', '-6', 'route', 'show', 'vrf', 'blue']), /default via fd00:60::1 dev eth0/)
  assert.match(netns.exec(['ip', 'addr', 'show', 'eth0']), /fd00:60::2\/64/)
  host.mustCni('CHECK', first)
  assert.equal(host.cni('ADD', call(netns, { vrfname: 'red' })).json.code, 7)
  assert.equal(host.cni('ADD', call(netns, { vrfname: 'blue', table: 7 })).json.code, 7)
  netns.sh('ip link set eth0 nomaster')
  assert.equal(host.cni('CHECK', first).json.code, 104)
  host.mustCni('DEL', { ...second, netns: '' })
  assert.equal(netns.run(['ip', 'link', 'show', 'blue']).status, 1)
  for (const path of [netns, '', '/run/netns/none']) host.mustCni('DEL', { ...first, netns: path })
})

hostTest('vrf: a name that no interface may have is refused, and so is a kernel without VRF', (host) => {
  const netns = host.container('c1')
  prepare(host, netns)
  for (const vrfname of ['', 'a/b', 'x'.repeat(16), 'eth%d']) assert.equal(host.cni('ADD', call(netns, { vrfname })).json.code, 7)
  assert.equal(host.cni('ADD', call(netns, { vrfname: 'eth1' })).json.code, 7)
  const { status, json } = host.cni('ADD', call(netns, { vrfname: 'blue' }))
  if (status !== 0) assert.match(`${json.code} ${json.msg}`, /^50 Cannot create the VRF "blue": the kernel has no VRF/)
})

const ROUTES: Difference = {
  name: 'vrf: routes by a gateway move into the table',
  without: (line) => (/\.container\.(routes[46]|policy[46])/.test(line) ? undefined : line),
}

const ADDRESSES: Difference = {
  name: 'vrf: an interface that leaves keeps its addresses of IPv6',
  without: (line) => (/^afterDel(Again)?\.container\.addresses\[eth0\]\.addr_info\[1\]/.test(line) ? undefined : line),
}

differentialTest({
  name: 'vrf: a table of its own',
  plugins: [{ type: 'vrf', vrfname: 'blue', table: 55 } as { type: string }],
  needs: 'vrf',
  prepare,
  prevResult,
  differences: [ROUTES, ADDRESSES],
})
