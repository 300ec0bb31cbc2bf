import { crossTest, type Difference, type DifferentialCase, differentialTest } from './differential.ts'
import type { Container, Host } from './host.ts'

/** A veth pair, as a plugin before would have made it. */
function prepare(host: Host, container: Container): void {
  host.sh(`
    ip link add veth00000001 mtu 1450 type veth peer name eth0 mtu 1450 netns ${container.name}
    ip link set veth00000001 up`)
  container.sh('ip link set eth0 up; ip addr add 10.60.0.2/24 dev eth0')
}

const prevResult = (container: Container) => ({
  cniVersion: '1.0.0',
  interfaces: [
    { name: 'veth00000001', mac: '02:00:00:00:00:02' },
    { name: 'eth0', mac: '02:00:00:00:00:01', sandbox: container.path },
  ],
  ips: [{ address: '10.60.0.2/24', gateway: '10.60.0.1', interface: 1 }],
})

/** What `tc` tells of every discipline and filter. */
const more = (host: Host) => ['veth00000001', 'bwp'].map((prefix) => tc(host, prefix))

function tc(host: Host, prefix: string): unknown {
  const links = host.json<{ ifname: string }>('ip', '-j', 'link').filter(({ ifname }) => ifname.startsWith(prefix))
  return links.map(({ ifname }) => ({
    qdiscs: host.exec(['tc', '-d', 'qdisc', 'show', 'dev', ifname]).trim().split('\n'),
    ingress: host.exec(['tc', 'filter', 'show', 'dev', ifname, 'parent', 'ffff:']).trim().split('\n'),
  }))
}

/** The three lines of the second action, of which the first is empty. */
const ACTIONS: Difference = {
  name: 'bandwidth: packets are redirected once',
  without: (line) => (/\.ingress\[[678]\]: /.test(line) ? undefined : line),
}

const PANIC: Difference = {
  name: 'bandwidth: CHECK without a limit succeeds',
  without: (line) => (line.startsWith('check.') ? undefined : line),
}

const LENIENT: Difference = {
  name: 'bandwidth: DEL needs no valid limits',
  without: (line) => (/^del(Again)?\./.test(line) ? undefined : line),
}

const CASES: readonly DifferentialCase[] = [
  {
    name: 'bandwidth: both ways',
    plugins: [limit({ ingressRate: 8_000_000, ingressBurst: 1_600_000, egressRate: 16_000_000, egressBurst: 800_000 })],
    differences: [ACTIONS],
  },
  { name: 'bandwidth: what is received', plugins: [limit({ ingressRate: 123_456_789, ingressBurst: 4_294_967_295 })] },
  { name: 'bandwidth: what is sent', plugins: [limit({ egressRate: 1000, egressBurst: 80_000 })], differences: [ACTIONS] },
  {
    name: 'bandwidth: by capability, in capitals as CRI writes it',
    plugins: [limit({})],
    runtimeConfig: { bandwidth: { IngressRate: 80_000_000, IngressBurst: 4_294_967_295, EgressRate: 40_000_000, EgressBurst: 1_000_000 } },
    differences: [ACTIONS],
  },
  {
    name: 'bandwidth: the definition beats the capability',
    plugins: [limit({ ingressRate: 8_000_000, ingressBurst: 1_600_000 })],
    runtimeConfig: { bandwidth: { egressRate: 40_000_000, egressBurst: 1_000_000 } },
  },
  { name: 'bandwidth: no limit', plugins: [limit({})], differences: [PANIC] },
  { name: 'bandwidth: half a pair is refused', plugins: [limit({ ingressRate: 8_000_000 })], differences: [LENIENT] },
  { name: 'bandwidth: a burst of 4 GiB is refused', plugins: [limit({ ingressRate: 8_000_000, ingressBurst: 8 * 2 ** 32 })], differences: [LENIENT] },
]

function limit(config: object): object & { type: string } {
  return { type: 'bandwidth', ...config }
}

for (const scenario of CASES) differentialTest({ prepare, prevResult, more, ...scenario })
crossTest({
  name: 'bandwidth',
  plugins: [limit({ ingressRate: 8_000_000, ingressBurst: 1_600_000, egressRate: 16_000_000, egressBurst: 800_000 })],
  prepare,
  prevResult,
  differences: [ACTIONS],
})
