import { crossTest, type Difference, type DifferentialCase, differentialTest } from './differential.ts'
import type { Container, Host } from './host.ts'

/** An interface with two addresses, as a plugin before would have made it. */
function prepare(host: Host, container: Container): void {
  host.sh(`
    ip link add port type veth peer name eth0 netns ${container.name}
    ip link set port up`)
  container.sh(`
    echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad
    ip link set eth0 up
    ip addr add 10.60.0.2/24 dev eth0; ip addr add fd00:60::2/64 dev eth0 nodad
    ip route add default via 10.60.0.1; ip route add 10.61.0.0/16 via 10.60.0.1; ip -6 route add default via fd00:60::1`)
}

const prevResult = (container: Container) => ({
  cniVersion: '1.0.0',
  interfaces: [{ name: 'eth0', mac: '02:00:00:00:00:01', sandbox: container.path }],
  ips: [
    { address: '10.60.0.2/24', gateway: '10.60.0.1', interface: 0 },
    { address: 'fd00:60::2/64', gateway: 'fd00:60::1', interface: 0 },
  ],
})

const SWITCHES = [
  'ipv4/conf/eth0/accept_redirects',
  'ipv4/conf/eth0/arp_announce',
  'ipv4/ping_group_range',
  'core/somaxconn',
  'ipv6/conf/eth0/hop_limit',
]
const more = (_host: Host, container: Container) => SWITCHES.map((key) => container.exec(['cat', `/proc/sys/net/${key}`]).trim())

/** What the reference sets down and up again to change its address has no routes afterwards. */
const ROUTES: Difference = {
  name: 'tuning: a new MAC address takes no routes away',
  without: (line) => (/^(afterAdd|afterDel|afterDelAgain|left)\.container\.routes[46]/.test(line) ? undefined : line),
}

const CHECKED: Difference = {
  name: 'tuning: CHECK knows IFNAME',
  without: (line) => (line.startsWith('check.') ? undefined : line),
}

const FAMILIES: Difference = {
  name: 'sbr: the table of an address has routes of its family only',
  without: (line) => (/\.container\.routes[46]\[fd00:60::\/64 eth0\]/.test(line) ? undefined : line),
}

const WITHOUT_NETNS: Difference = {
  name: 'sbr: DEL without a namespace succeeds',
  without: (line) => (line.startsWith('delAgain.') ? undefined : line),
}

const CASES: readonly DifferentialCase[] = [
  {
    name: 'tuning: sysctls with dots and with slashes',
    plugins: [tuning({ sysctl: { 'net.ipv4.conf.IFNAME.accept_redirects': '1', 'net/ipv4/conf/IFNAME/arp_announce': '2' } })],
    differences: [CHECKED],
  },
  { name: 'tuning: sysctls of no interface', plugins: [tuning({ sysctl: { 'net.core.somaxconn': '512', 'net.ipv4.ping_group_range': '0\t100' } })] },
  { name: 'tuning: MTU, promiscuous, all multicast', plugins: [tuning({ mtu: 1300, promisc: true, allmulti: true })] },
  { name: 'tuning: MAC', plugins: [tuning({ mac: '02:11:22:33:44:55' })], differences: [ROUTES] },
  { name: 'tuning: MAC by CNI_ARGS', plugins: [tuning({})], args: 'IgnoreUnknown=1;MAC=02:11:22:33:44:66;K8S_POD_NAME=p', differences: [ROUTES] },
  {
    name: 'tuning: MAC by capability beats that of the definition',
    plugins: [tuning({ mac: '02:11:22:33:44:55' })],
    runtimeConfig: { mac: '02:11:22:33:44:77' },
    differences: [ROUTES],
  },
  {
    name: 'tuning: args.cni beats all',
    plugins: [tuning({ mtu: 1300, sysctl: {}, args: { cni: { mtu: 1350, sysctl: { 'net.ipv6.conf.IFNAME.hop_limit': '33' } } } })],
    differences: [CHECKED],
  },
  { name: 'tuning: nothing to do', plugins: [tuning({})] },
  { name: 'tuning: a sysctl outside of net is refused', plugins: [tuning({ sysctl: { 'kernel.hostname': 'x' } })] },
  { name: 'tuning: dataDir', plugins: [tuning({ mtu: 1400, dataDir: '/run/cni/elsewhere' })] },
  { name: 'sbr: both families', plugins: [{ type: 'sbr' }], differences: [FAMILIES, WITHOUT_NETNS] },
]

function tuning(config: object): object & { type: string } {
  return { type: 'tuning', ...config }
}

for (const scenario of CASES) differentialTest({ prepare, prevResult, more, ...scenario })
crossTest({ name: 'tuning', plugins: [tuning({ mtu: 1300, promisc: true })], prepare, prevResult })
crossTest({ name: 'sbr', plugins: [{ type: 'sbr' }], prepare, prevResult, differences: [FAMILIES] })
