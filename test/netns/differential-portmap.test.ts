import { crossTest, type Difference, type DifferentialCase, differentialTest } from './differential.ts'
import type { Host } from './host.ts'

const ips = {
  4: { interface: 2, address: '10.1.2.3/24', gateway: '10.1.2.1' },
  6: { interface: 2, address: 'fd00:1::3/64', gateway: 'fd00:1::1' },
} as const

/** What a bridge plugin would have answered. */
function result(...families: readonly (4 | 6)[]): object {
  const interfaces = [{ name: 'br0' }, { name: 'veth0' }, { name: 'eth0', sandbox: '/run/netns/c1' }]
  return { prevResult: { cniVersion: '1.0.0', interfaces, ips: families.map((family) => ips[family]), dns: {} } }
}

function prepare(host: Host): void {
  host.sh('ip link add br0 type bridge; ip addr add 10.1.2.1/24 dev br0; ip addr add fd00:1::1/64 dev br0 nodad; ip link set br0 up')
}

/** Rules are one text, with `\\n` between them. */
const DNAT: Difference = {
  name: 'firewall: published ports answer under FORWARD DROP',
  without: (line, side) => (side === 'tsnet' ? line.replace(/\\n-A CNI-FORWARD -d \S+ -m conntrack --ctstate DNAT -j ACCEPT/g, '') : line),
}
const ISOLATION: Difference = {
  name: 'firewall: chains of isolation go',
  without: (line) => (/^(afterDel|afterDelAgain|left)\./.test(line) ? line.replace(/\\n[-:](?:(?!\\n).)*ISOLATION(?:(?!\\n).)*/g, '') : line),
}
const HOST_IP: Difference = {
  name: "portmap: a port of one family is not named in the other's rules",
  without: (line) => line.replace(/\\n-A CNI-HOSTPORT-DNAT (?:(?!\\n).)*/g, ''),
}
const CHECK: Difference = {
  name: 'portmap: CHECK succeeds',
  without: (line) => (line.startsWith('check.') ? undefined : line),
}

const port = (hostPort: number, containerPort: number, more: object = {}) => ({ hostPort, containerPort, protocol: 'tcp', ...more })
const twenty = Array.from({ length: 20 }, (_, i) => port(8000 + i, 80 + i, { protocol: i % 7 === 0 ? 'udp' : 'tcp' }))

/** Keys of the configuration beside the type. */
const portmap = (keys: object) => ({ type: 'portmap', ...keys })
const firewall = (keys: object = {}) => ({ type: 'firewall', ...keys })

const CASES: readonly DifferentialCase[] = [
  {
    name: 'portmap and firewall with both families',
    plugins: [portmap(result(4, 6)), firewall()],
    runtimeConfig: { portMappings: [port(8080, 80), port(8080, 80, { protocol: 'udp' })] },
    differences: [DNAT, CHECK],
  },
  {
    name: 'portmap with twenty ports, firewall with a chain of the administrator',
    plugins: [portmap(result(4)), firewall({ iptablesAdminChainName: 'MY-ADMIN', backend: 'iptables' })],
    runtimeConfig: { portMappings: twenty },
    differences: [DNAT, CHECK],
  },
  {
    name: 'portmap with addresses of the host, and firewall with ingressPolicy',
    plugins: [portmap(result(4, 6)), firewall({ ingressPolicy: 'same-bridge' })],
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
  { name: 'portmap without snat', plugins: [portmap({ snat: false, ...result(4) })], runtimeConfig: { portMappings: [port(8080, 80)] } },
  {
    name: 'portmap with a mark and conditions',
    plugins: [portmap({ markMasqBit: 5, conditionsV4: ['-s', '192.0.2.0/24'], conditionsV6: ['!', '-d', 'fd00::/64'], ...result(4, 6) })],
    runtimeConfig: { portMappings: [port(8080, 80)] },
  },
  {
    name: "portmap with somebody else's chain for the mark",
    plugins: [portmap({ externalSetMarkChain: 'SOME-MARK', ...result(4) })],
    runtimeConfig: { portMappings: [port(8080, 80)] },
    prepare: (host) => host.sh('iptables -t nat -N SOME-MARK'),
  },
  {
    name: 'portmap without ports, firewall with open ingressPolicy',
    plugins: [portmap(result(4, 6)), firewall({ ingressPolicy: 'open' })],
    differences: [DNAT, CHECK],
  },
  { name: 'portmap that publishes port 0', plugins: [portmap(result(4))], runtimeConfig: { portMappings: [port(0, 80)] } },
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
  plugins: [portmap(result(4, 6)), firewall()],
  runtimeConfig: { portMappings: twenty },
  prepare,
  differences: [DNAT, CHECK],
})
