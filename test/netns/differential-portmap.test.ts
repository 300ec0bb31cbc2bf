import { crossTest, type Difference, type DifferentialCase, differentialTest } from './differential.ts'
import type { Host } from './host.ts'

const ips = {
  4: { interface: 2, address: '10.1.2.3/24', gateway: '10.1.2.1' },
  6: { interface: 2, address: 'fd00:1::3/64', gateway: 'fd00:1::1' },
} as const

/** What a bridge plugin would have answered. */
function result(...families: readonly (4 | 6)[]): Pick<DifferentialCase, 'prevResult'> {
  return {
    prevResult: ({ path }) => ({
      cniVersion: '1.0.0',
      interfaces: [{ name: 'br0' }, { name: 'veth0' }, { name: 'eth0', sandbox: path }],
      ips: families.map((family) => ips[family]),
      dns: {},
    }),
  }
}

function prepare(host: Host): void {
  host.sh('ip link add br0 type bridge; ip addr add 10.1.2.1/24 dev br0; ip link set br0 up')
}

/** A rule's number differs where one before it is left out. */
function withoutPlace(line: string): string {
  return line.replace(/rules\[\d+\]/, 'rules[]')
}

const DNAT: Difference = {
  name: 'firewall: published ports answer under FORWARD DROP',
  without: (line, side) => (side === 'tsnet' && line.includes('--ctstate DNAT -j ACCEPT') ? undefined : withoutPlace(line)),
}
const ISOLATION: Difference = {
  name: 'firewall: chains of isolation go',
  without: (line) => (/^(afterDel|afterDelAgain|left)\..*ISOLATION/.test(line) ? undefined : withoutPlace(line)),
}
const HOST_IP: Difference = {
  name: "portmap: a port of one family is not named in the other's rules",
  without: (line) => (line.includes('-A CNI-HOSTPORT-DNAT') ? undefined : line),
}
const DEL: Difference = {
  name: 'portmap: DEL does not fail for a bad configuration',
  without: (line) => (/^del(Again)?\./.test(line) ? undefined : line),
}
const CHECK: Difference = {
  name: 'portmap: CHECK succeeds',
  without: (line) => (line.startsWith('check.') ? undefined : line),
}

const port = (hostPort: number, containerPort: number, more: object = {}) => ({ hostPort, containerPort, protocol: 'tcp', ...more })
const twenty = Array.from({ length: 20 }, (_, i) => port(8000 + i, 80 + i, { protocol: i % 7 === 0 ? 'udp' : 'tcp' }))

/** Keys of the configuration beside the type. */
const portmap = (keys: object = {}) => ({ type: 'portmap', ...keys })
const firewall = (keys: object = {}) => ({ type: 'firewall', ...keys })

const CASES: readonly DifferentialCase[] = [
  {
    name: 'portmap and firewall with both families',
    ...result(4, 6),
    plugins: [portmap(), firewall()],
    runtimeConfig: { portMappings: [port(8080, 80), port(8080, 80, { protocol: 'udp' })] },
    differences: [DNAT, CHECK],
  },
  {
    name: 'portmap with twenty ports, firewall with a chain of the administrator',
    ...result(4),
    plugins: [portmap(), firewall({ iptablesAdminChainName: 'MY-ADMIN', backend: 'iptables' })],
    runtimeConfig: { portMappings: twenty },
    differences: [DNAT, CHECK],
  },
  {
    name: 'portmap with addresses of the host, and firewall with ingressPolicy',
    ...result(4, 6),
    plugins: [portmap(), firewall({ ingressPolicy: 'same-bridge' })],
    runtimeConfig: {
      portMappings: [
        port(8081, 81, { hostIP: '10.1.2.1', protocol: 'udp' }),
        port(8082, 82, { hostIP: '0.0.0.0' }),
        port(8083, 83, { hostIP: 'fd00:1::1' }),
        { HostPort: 8084, ContainerPort: 84, Protocol: 'tcp', HostIP: '::' },
      ],
    },
    differences: [DNAT, CHECK, ISOLATION, HOST_IP],
  },
  { name: 'portmap without snat', ...result(4), plugins: [portmap({ snat: false })], runtimeConfig: { portMappings: [port(8080, 80)] } },
  {
    name: 'portmap with a mark and conditions',
    ...result(4, 6),
    plugins: [portmap({ markMasqBit: 5, conditionsV4: ['-s', '192.0.2.0/24'], conditionsV6: ['!', '-d', 'fd00::/64'] })],
    runtimeConfig: { portMappings: [port(8080, 80)] },
  },
  {
    name: "portmap with somebody else's chain for the mark",
    ...result(4),
    plugins: [portmap({ externalSetMarkChain: 'SOME-MARK' })],
    runtimeConfig: { portMappings: [port(8080, 80)] },
    prepare: (host) => host.sh('iptables -t nat -N SOME-MARK'),
  },
  {
    name: 'portmap without ports, firewall with open ingressPolicy',
    ...result(4, 6),
    plugins: [portmap(), firewall({ ingressPolicy: 'open' })],
    differences: [DNAT, CHECK],
  },
  { name: 'portmap that publishes port 0', ...result(4), plugins: [portmap()], runtimeConfig: { portMappings: [port(0, 80)] }, differences: [DEL] },
]

for (const { prepare: more, differences = [CHECK], ...scenario } of CASES) {
  differentialTest({
    ...scenario,
    differences,
    prepare: (host, container) => {
      prepare(host)
      more?.(host, container)
    },
  })
}
crossTest({
  name: 'portmap and firewall',
  ...result(4, 6),
  plugins: [portmap(), firewall()],
  runtimeConfig: { portMappings: twenty },
  prepare,
  // A rule that the reference does not know of stays: it lets through what somebody publishes for the address, and nothing else.
  differences: [{ ...DNAT, without: (line) => DNAT.without(line, 'tsnet') }],
})
