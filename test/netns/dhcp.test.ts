import assert from 'node:assert/strict'
import { dirname } from 'node:path'
import { addressesOf, DHCP, DHCP_NETWORK, givenByUdhcpd, macvlanContainer, startDaemon, startDnsmasq, startUdhcpd } from './dhcp-server.ts'
import { ADDRESSES, hostTest } from './host.ts'
import { eventually } from './machine.ts'
import { Sniffer } from './sniff.ts'
import { stateFiles } from './state.ts'

const VALID = (...ids: readonly string[]) => ({ 'cni.dev/valid-attachments': ids.map((containerID) => ({ containerID, ifname: 'eth0' })) })

hostTest('dhcp: ADD answers with all that the server says, CHECK finds the lease, DEL gives it back', async (host) => {
  const more = ['option dns 10.99.0.2 9.9.9.9', 'option domain lan.example', 'option search a.example b.example', 'option mtu 1300']
  const server = await startUdhcpd(host, 600, ...more)
  await startDaemon(host)
  const { call } = macvlanContainer(host, 'c1')
  host.mustCni('STATUS', call)
  assert.equal(host.cni('CHECK', call).json.code, 3)
  const result = host.mustCni('ADD', call)
  const address = result.ips?.[0]?.address ?? ''
  assert.match(address, /^10\.99\.0\.1(0\d|10)\/24$/)
  assert.deepEqual(result, {
    cniVersion: '1.1.0',
    ips: [{ address, gateway: '10.99.0.2' }],
    routes: [{ dst: '0.0.0.0/0', gw: '10.99.0.2', mtu: 1300 }],
    dns: { nameservers: ['10.99.0.2', '9.9.9.9'], domain: 'lan.example', search: ['a.example', 'b.example'] },
  })
  assert.deepEqual(host.mustCni('ADD', call), result, 'a lease that is held is answered with')
  host.mustCni('CHECK', { ...call, prevResult: result })
  assert.equal(host.cni('CHECK', { ...call, prevResult: { ...result, ips: [{ address: '10.99.0.9/24' }] } }).json.code, 104)
  assert.ok((givenByUdhcpd(host, server).get(address.replace('/24', '')) ?? 0) > 590)
  assert.deepEqual(stateFiles(host), ['dhcp/lan/c1:eth0.json'])
  assert.equal(host.sh('stat -c %a /run/cni /run/cni/dhcp.sock /run/tsnet/dhcp /run/tsnet/dhcp/lan/c1:eth0.json'), '700\n600\n700\n600\n')
  assert.equal(host.cni('DEL', call).stderr, '')
  await eventually('the server has the address back', () => givenByUdhcpd(host, server).get(address.replace('/24', '')) === 0)
  assert.deepEqual(stateFiles(host), [])
  const again = host.cni('DEL', { ...call, netns: '' })
  assert.deepEqual([again.status, again.stdout], [0, ''])
  assert.match(again.stderr, /holds no lease for "lan\/c1:eth0"/)
})

hostTest('dhcp: a lease is renewed, by the successor of a daemon that was killed too', async (host) => {
  const server = await startUdhcpd(host, 3)
  const first = await startDaemon(host)
  const { container, call } = macvlanContainer(host, 'c1')
  const address = host.mustCni('ADD', call).ips?.[0]?.address ?? ''
  container.exec(['ip', 'addr', 'add', address, 'dev', 'eth0'])
  const sniffer = await Sniffer.start(host, 'uplink', 'icmp or udp')
  await first.says(/: renewed lease=lan\/c1:eth0 address=/)
  await sniffer.line(/10\.99\.0\.1\d\d\.68 > 10\.99\.0\.2\.67: BOOTP\/DHCP, Request/)
  await sniffer.line(/10\.99\.0\.2\.67 > 10\.99\.0\.1\d\d\.68: BOOTP\/DHCP, Reply/)
  await first.stop('SIGKILL')
  const second = await startDaemon(host)
  await second.says(/goes on with the leases of its predecessor leases=1/)
  await second.says(/: renewed /)
  assert.ok((givenByUdhcpd(host, server).get(address.replace('/24', '')) ?? 0) > 0)
  assert.deepEqual(addressesOf(container), [address])
  host.mustCni('CHECK', call)
  assert.ok(!sniffer.saw(/unreachable/), sniffer.text)
  assert.equal(await second.stop(), 0)
  assert.equal(host.run(['test', '-e', '/run/cni/dhcp.sock']).status, 1)
})

hostTest('dhcp: an address that is not renewed is taken away, and comes back with its routes', async (host) => {
  const server = await startUdhcpd(host, 2)
  const daemon = await startDaemon(host)
  const { container, call } = macvlanContainer(host, 'c1')
  const address = host.mustCni('ADD', call).ips?.[0]?.address ?? ''
  container.exec(['ip', 'addr', 'add', address, 'dev', 'eth0'])
  container.exec(['ip', 'route', 'add', '10.5.0.0/16', 'dev', 'eth0'])
  container.exec(['ip', 'route', 'add', 'default', 'via', '10.5.0.1', 'metric', '7'])
  const routes = () => container.json<object>('ip', '-j', 'route')
  const before = routes()
  await server.stop('SIGKILL')
  await daemon.says(/warning: lost a lease, and took its address away .* reason="it has expired"/)
  assert.deepEqual([addressesOf(container), routes()], [[], []])
  assert.equal(host.cni('CHECK', call).json.code, 3)
  await daemon.stop()
  const successor = await startDaemon(host)
  await startUdhcpd(host, 60)
  await successor.says(/: restored /)
  assert.deepEqual([addressesOf(container), routes()], [[address], before])
  host.mustCni('CHECK', call)
})

hostTest('dhcp: a server that refuses a lease takes its address, and another address is not taken in its place', async (host) => {
  const range = (first: number) => `--dhcp-range=10.99.0.${first},10.99.0.${first + 5},255.255.255.0,2m`
  const server = await startDnsmasq(host, range(100), '--dhcp-authoritative')
  const first = await startDaemon(host)
  const { container, call } = macvlanContainer(host, 'c1')
  const address = host.mustCni('ADD', call).ips?.[0]?.address ?? ''
  container.exec(['ip', 'addr', 'add', address, 'dev', 'eth0'])
  await server.stop('SIGKILL')
  host.outside.exec(['rm', '/run/dnsmasq.leases'])
  const other = await startDnsmasq(host, range(200), '--dhcp-authoritative')
  // dnsmasq has a lease renewed after a minute at the earliest: this one is due at once.
  await first.stop()
  host.exec(['sed', '-i', 's/"renewAt":[0-9.]*/"renewAt":1/', '/run/tsnet/dhcp/lan/c1:eth0.json'])
  const daemon = await startDaemon(host)
  await daemon.says(/lost a lease.*the server refuses it/)
  assert.deepEqual(addressesOf(container), [])
  await other.says(/DHCPOFFER.* 10\.99\.0\.20\d/, 2)
  assert.doesNotMatch(other.log, /DHCPACK/)
  await other.stop('SIGKILL')
  await startDnsmasq(host, range(100), '--dhcp-authoritative')
  await daemon.says(/: restored /)
  assert.deepEqual(addressesOf(container), [address])
})

hostTest('dhcp: what is asked for and said goes out, and classless routes replace the router', async (host) => {
  const options = ['--dhcp-option=option:classless-static-route,10.7.0.0/16,10.99.0.4,10.8.0.0/24,0.0.0.0', '--dhcp-option=option:router,10.99.0.2']
  const server = await startDnsmasq(host, '--dhcp-range=10.99.0.100,10.99.0.105,255.255.255.0,2m', ...options)
  const daemon = await startDaemon(host, '-broadcast=true', '-pidfile', '/run/dhcp.pid', '-socketpath', '/run/other/dhcp.sock')
  const { call } = macvlanContainer(host, 'c1')
  const ipam = {
    type: 'dhcp',
    daemonSocketPath: '/run/other/dhcp.sock',
    priority: 50,
    request: [{ option: '42' }],
    provide: [
      { option: 'host-name', value: 'nobody', fromArg: 'K8S_POD_NAME' },
      { option: '60', value: 'some vendor' },
    ],
  }
  const result = host.mustCni('ADD', { ...call, conf: { ...DHCP_NETWORK, ipam }, args: 'IgnoreUnknown=1;K8S_POD_NAME=web-1' })
  const address = result.ips?.[0]?.address
  assert.deepEqual(
    [result.ips, result.routes],
    [
      [{ address }],
      [
        { dst: '10.7.0.0/16', gw: '10.99.0.4', priority: 50 },
        { dst: '10.8.0.0/24', gw: '0.0.0.0', scope: 253, priority: 50 },
      ],
    ],
  )
  await server.says(/DHCPACK\(uplink\) 10\.99\.0\.10\d [0-9a-f:]{17} web-1/)
  await server.says(/vendor class: some vendor/)
  await server.says(/requested options:.*121:classless-static-route/)
  await server.says(/42:ntp-server/)
  await server.says(/client provides name: web-1/)
  assert.match(host.outside.exec(['cat', '/run/dnsmasq.leases']), / web-1 00:63:31:2f:6c:61:6e:2f:65:74:68:30$/m, 'client id 0 c1/lan/eth0')
  assert.equal(host.exec(['cat', '/run/dhcp.pid']), /pid=(\d+)/.exec(daemon.log)?.[1])
  host.mustCni('DEL', { ...call, conf: { ...DHCP_NETWORK, ipam } })
  await server.says(/DHCPRELEASE/)
  await daemon.stop()
  assert.equal(host.run(['test', '-e', '/run/dhcp.pid']).status, 1)
})

hostTest('dhcp: containers at the same time get leases of their own, and GC gives back what no runtime knows', async (host) => {
  const server = await startUdhcpd(host, 600)
  host.exec(['ln', '-s', '/', '/run/host'])
  await startDaemon(host, '-hostprefix', '/run/host/')
  const calls = ['c1', 'c2', 'c3'].map((name) => macvlanContainer(host, name).call)
  const results = await Promise.all(calls.map((call) => host.cniAsync('ADD', call)))
  const addresses = results.map(({ json }) => json.ips?.[0]?.address.replace('/24', '') ?? '')
  assert.equal(new Set(addresses).size, 3, JSON.stringify(results))
  host.mustCni('GC', { conf: DHCP_NETWORK, program: calls[0]?.program ?? '' })
  host.mustCni('GC', { conf: { ...DHCP_NETWORK, name: 'other', ...VALID() }, program: calls[0]?.program ?? '' })
  assert.equal(stateFiles(host).length, 3)
  host.mustCni('GC', { conf: { ...DHCP_NETWORK, ...VALID('c2') }, program: calls[0]?.program ?? '' })
  assert.deepEqual(stateFiles(host), ['dhcp/lan/c2:eth0.json'])
  const given = () => addresses.map((address) => (givenByUdhcpd(host, server).get(address) ?? 0) > 0)
  await eventually('the server has two addresses back', () => given().filter((is) => is).length === 1)
  assert.deepEqual(given(), [false, true, false])
})

hostTest("dhcp: the reference macvlan plugin delegates to it, and makes the container's routes of what it answers", async (host) => {
  const server = await startDnsmasq(
    host,
    '--dhcp-range=10.99.0.100,10.99.0.105,255.255.255.0,2m',
    '--dhcp-option=option:classless-static-route,10.8.0.0/24,0.0.0.0,0.0.0.0/0,10.99.0.2',
  )
  await startDaemon(host)
  const netns = host.container('c1')
  const conf = { ...DHCP_NETWORK, cniVersion: '1.0.0', master: 'uplink' }
  const call = { netns, conf, program: '/usr/lib/cni/macvlan', env: { CNI_PATH: dirname(DHCP) } }
  const result = host.mustCni('ADD', call)
  assert.deepEqual(addressesOf(netns), [result.ips?.[0]?.address])
  const routes = netns.json<{ dst: string; gateway?: string }>('ip', '-j', 'route').map(({ dst, gateway }) => [dst, gateway])
  assert.deepEqual(routes, [
    ['default', '10.99.0.2'],
    ['10.8.0.0/24', undefined],
    ['10.99.0.0/24', undefined],
  ])
  assert.equal(netns.run(['ping', '-c1', '-W1', ADDRESSES[4].far]).status, 0)
  // Its CHECK looks for a gateway 0.0.0.0, which the kernel does not name.
  const prevResult = { ...result, routes: result.routes?.filter(({ gw }) => gw !== '0.0.0.0') }
  host.mustCni('CHECK', { ...call, prevResult })
  host.mustCni('DEL', { ...call, prevResult })
  await server.says(/DHCPRELEASE/)
  assert.deepEqual(stateFiles(host), [])
})

hostTest('dhcp: a server gives the same container the same address and routes, whichever daemon asks for it', async (host) => {
  const server = await startDnsmasq(
    host,
    '--dhcp-range=10.99.0.100,10.99.0.199,255.255.255.0,2m',
    '--dhcp-option=option:classless-static-route,10.7.0.0/16,10.99.0.4,0.0.0.0/0,10.99.0.2',
  )
  const { call } = macvlanContainer(host, 'c1')
  const socket = '/run/cni/reference.sock'
  host.start(['/usr/lib/cni/dhcp', 'daemon', '-socketpath', socket])
  await eventually('the reference daemon serves', () => host.run(['test', '-S', socket]).status === 0)
  const ipam = { type: 'dhcp', request: [{ option: '121' }] }
  const conf = { ...DHCP_NETWORK, cniVersion: '1.0.0', ipam: { ...ipam, daemonSocketPath: socket } }
  const theirs = host.mustCni('ADD', { ...call, conf, program: '/usr/lib/cni/dhcp' })
  await startDaemon(host)
  const ours = host.mustCni('ADD', { ...call, conf: { ...conf, ipam } })
  assert.deepEqual(ours.ips, theirs.ips)
  assert.deepEqual(ours.routes, theirs.routes)
  await server.says(/DHCPACK/, 2)
})
