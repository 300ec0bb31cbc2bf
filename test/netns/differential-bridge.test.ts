import { crossTest, type Difference, type DifferentialCase, differentialTest } from './differential.ts'
import type { Container, Host } from './host.ts'

const DUAL_STACK = {
  type: 'host-local',
  ranges: [[{ subnet: '10.50.0.0/24' }], [{ subnet: 'fd00:50::/64' }]],
  routes: [{ dst: '10.77.0.0/16' }, { dst: 'fd00:77::/64' }],
}
const V4 = { type: 'host-local', subnet: '10.50.0.0/24' }
const STATIC = {
  type: 'static',
  addresses: [{ address: '10.50.0.7/24', gateway: '10.50.0.254' }],
  routes: [{ dst: '0.0.0.0/0', gw: '10.50.0.254' }],
  dns: { nameservers: ['10.50.0.254'], domain: 'ipam.example' },
}
const plugin = (type: string, keys: object) => ({ type, ...keys })
const bridge = (keys: object = {}) => plugin('bridge', { bridge: 'br-net', ...keys })
const ptp = (keys: object) => plugin('ptp', keys)

const without = (name: string, pattern: RegExp): Difference => ({ name, without: (line) => (pattern.test(line) ? undefined : line) })

const EVERYWHERE: readonly Difference[] = [
  without('interfaces: the result says the MTU', /^add\.result\.interfaces.*\.mtu: /),
  without('interfaces: the transmit queue is as long as the kernel makes it', /\[(veth#\d+|eth0)\]\.txqlen: /),
  without('interfaces: routes are marked as static', /\.routes[46]\[.*\]\.protocol: "static"/),
  without("bridge, ptp: the gateway's IPv6 address is there at once", /\.(nodad|tentative): true|\.routes[46]\[fd00:50::1? (br-net|veth#\d+)\]/),
]
const PINNED = without('bridge: the MAC address is pinned from the beginning', /mac#\d+|\[(cni0|br-net)\]\.address/)
const CHECK_L2 = without('bridge: CHECK works without ipam', /^check\./)
const CHECK_ROUTES = without('bridge, ptp: CHECK knows routes that go by the gateway of the address', /^check\./)
const IPAM_DNS = without("interfaces: IPAM's dns is kept", /^add\.result\.dns\./)
const CHECK_PORTMAP = without('portmap: CHECK succeeds', /^check\./)
/** A rule more moves the others. */
const DNAT: Difference = {
  name: 'firewall: published ports answer under FORWARD DROP',
  without: (line) => (line.includes('--ctstate DNAT -j ACCEPT') ? undefined : line.replace(/^(\w+\.host\.rules)\[\d+\]/, '$1')),
}
const UNDONE = without('all: a failed ADD leaves nothing', /^(afterAdd|afterDel|afterDelAgain)\.|^del/)

const nft = (host: Host) => host.run(['nft', '-s', 'list', 'table', 'bridge', 'nat']).stdout.split('\n')
const switches = (host: Host, container: Container) => [
  host.exec(['cat', '/proc/sys/net/ipv4/ip_forward', '/proc/sys/net/ipv6/conf/all/forwarding']),
  container.run(['sh', '-c', 'cat /proc/sys/net/ipv*/conf/eth0/{arp_notify,accept_dad,keep_addr_on_down}']).stdout,
]
const bridgeWith = (address: string) => (host: Host) => host.sh(`ip link add br-net type bridge; ip addr add ${address} dev br-net`)

const CASES: readonly DifferentialCase[] = [
  { name: 'bridge without anything', plugins: [{ type: 'bridge' }], differences: [PINNED, CHECK_L2] },
  { name: 'bridge, promiscuous', plugins: [bridge({ promiscMode: true })], cniVersion: '0.4.0', differences: [PINNED, CHECK_L2] },
  { name: 'bridge as a gateway', plugins: [bridge({ isGateway: true, ipam: V4 })], more: switches },
  { name: 'bridge with addresses, the host with none', plugins: [bridge({ ipam: V4 })], cniVersion: '0.2.0', differences: [PINNED] },
  {
    name: 'bridge as the default gateway of both families, masqueraded',
    plugins: [bridge({ isDefaultGateway: true, ipMasq: true, mtu: 1400, ipam: DUAL_STACK })],
    more: switches,
    differences: [CHECK_ROUTES],
  },
  {
    name: 'bridge in hairpin mode, with its source MAC address checked',
    plugins: [bridge({ isGateway: true, hairpinMode: true, macspoofchk: true, ipam: V4 })],
    runtimeConfig: { mac: 'c2:11:22:33:44:55' },
    more: nft,
  },
  {
    name: "bridge with the addresses of static, and IPAM's dns",
    plugins: [bridge({ ipam: STATIC })],
    cniVersion: '0.3.1',
    differences: [PINNED, IPAM_DNS],
  },
  {
    name: "bridge with a dns of its own instead of IPAM's, and a MAC address by CNI_ARGS",
    plugins: [bridge({ isGateway: true, ipam: STATIC, dns: { nameservers: ['10.1.1.1'] } })],
    args: 'IgnoreUnknown=1;MAC=c2:11:22:33:44:55',
  },
  {
    name: 'bridge that has another address, by force',
    plugins: [bridge({ isGateway: true, forceAddress: true, ipam: V4 })],
    prepare: bridgeWith('10.51.0.1/24'),
  },
  {
    name: 'bridge that has another address',
    plugins: [bridge({ isGateway: true, ipam: V4 })],
    prepare: bridgeWith('10.51.0.1/24'),
    differences: [UNDONE],
  },
  {
    name: 'bridge whose name is that of another link',
    plugins: [bridge()],
    prepare: (host) => host.sh('ip link add br-net type veth peer name other'),
  },
  {
    name: 'bridge and what a kubelet chains behind it',
    plugins: [
      bridge({ isDefaultGateway: true, ipMasq: true, hairpinMode: true, ipam: V4 }),
      plugin('portmap', { snat: true }),
      plugin('firewall', { backend: 'iptables' }),
      plugin('bandwidth', { ingressRate: 1_000_000, ingressBurst: 200_000 }),
      plugin('tuning', { mac: 'c2:11:22:33:44:66', sysctl: { 'net.ipv4.conf.IFNAME.arp_filter': '1' } }),
    ],
    runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] },
    differences: [DNAT, CHECK_PORTMAP],
  },
  { name: 'ptp', plugins: [ptp({ ipam: V4 })], more: switches },
  {
    name: 'ptp with both families, masqueraded',
    plugins: [ptp({ ipMasq: true, mtu: 1300, ipam: DUAL_STACK })],
    differences: [CHECK_ROUTES],
  },
  { name: 'ptp with the addresses of static', plugins: [ptp({ ipam: STATIC, dns: { search: ['own.example'] } })], cniVersion: '0.4.0' },
]
const CROSSED: readonly DifferentialCase[] = [
  { name: 'bridge', plugins: [bridge({ isDefaultGateway: true, ipMasq: true, macspoofchk: true, ipam: DUAL_STACK })], more: nft },
  { name: 'ptp', plugins: [ptp({ ipMasq: true, ipam: V4 })] },
]

const everywhere = (scenario: DifferentialCase) => ({ ...scenario, differences: [...EVERYWHERE, ...(scenario.differences ?? [])] })
for (const scenario of CASES) differentialTest(everywhere(scenario))
for (const scenario of CROSSED) crossTest(everywhere(scenario))
