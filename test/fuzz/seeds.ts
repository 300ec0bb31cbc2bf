/** Good inputs, of which the hostile ones are made. */
import { readFileSync } from 'node:fs'
import { encodeFrame, KIND } from '../../src/agent/frame.ts'
import { encodeCall } from '../../src/wire/dbus.ts'

interface Trace {
  readonly env: Readonly<Record<string, string>>
  readonly stdin: object
  readonly stdout: object | ''
}

const RUNTIMES = ['cri', 'ctr', 'podman', 'hook']

/** What real runtimes have sent, and the plugins answered. */
export const TRACES: readonly Trace[] = RUNTIMES.flatMap((name) =>
  readFileSync(`test/traces/${name}.jsonl`, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Trace),
)

const RESULT = {
  cniVersion: '1.1.0',
  interfaces: [
    { name: 'br0', mac: '02:00:00:00:00:01', mtu: 1500 },
    { name: 'eth0', mac: '02:00:00:00:00:02', sandbox: '/run/netns/a' },
  ],
  ips: [{ address: '10.9.0.2/24', gateway: '10.9.0.1', interface: 1 }, { address: 'fd00:9::2/64' }],
  routes: [{ dst: '0.0.0.0/0', gw: '10.9.0.1', mtu: 1400, table: 100 }],
  dns: { nameservers: ['192.0.2.53'], domain: 'example', search: ['a.example'], options: ['ndots:2'] },
}

/** A configuration with every key that type tsnet knows. */
export const CONFIG = {
  cniVersion: '1.1.0',
  name: 'hostile',
  type: 'tsnet',
  bridge: 'br-hostile',
  backend: 'nftables',
  isGateway: true,
  isDefaultGateway: true,
  ipMasq: true,
  hairpinMode: false,
  mtu: 1400,
  icc: true,
  internal: false,
  gatewayMode: 'nat',
  trusted: ['eth0'],
  macspoofchk: false,
  ipam: {
    type: 'host-local',
    subnet: '10.9.0.0/24',
    rangeStart: '10.9.0.2',
    rangeEnd: '10.9.0.200',
    gateway: '10.9.0.1',
    exclude: ['10.9.0.9', '10.9.0.16-10.9.0.31', '10.9.0.128/28'],
    ranges: [[{ subnet: 'fd00:9::/64' }]],
    routes: [{ dst: '192.0.2.0/24', gw: '10.9.0.1', mtu: 1300, advmss: 1200, priority: 5, table: 7, scope: 0 }],
  },
  dns: RESULT.dns,
  capabilities: { portMappings: true, ips: true, mac: true, ipRanges: true, dns: true },
  runtimeConfig: {
    portMappings: [
      { hostPort: 18080, containerPort: 80, protocol: 'tcp' },
      { hostPort: 19000, containerPort: 9000, protocol: 'udp', hostIP: '127.0.0.1', range: 3, allow: ['192.0.2.0/24', '::/0'] },
    ],
    ips: ['10.9.0.77/24'],
    mac: '02:00:00:00:00:77',
    ipRanges: [[{ subnet: '10.9.0.0/24', rangeStart: '10.9.0.64', rangeEnd: '10.9.0.127', gateway: '10.9.0.1' }]],
    dns: { servers: ['192.0.2.53'], searches: ['example'], options: [] },
  },
  args: { cni: { ips: ['10.9.0.78'], mac: '02:00:00:00:00:78' } },
  prevResult: RESULT,
  'cni.dev/valid-attachments': [{ containerID: 'h1', ifname: 'eth0' }],
}

export const ENVIRONMENT: Readonly<Record<string, string>> = {
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: 'h1',
  CNI_NETNS: '/run/netns/h1',
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/opt/cni/bin',
  CNI_ARGS: 'IgnoreUnknown=1;IP=10.9.0.5;GATEWAY=10.9.0.1;MAC=02:00:00:00:00:05;K8S_POD_NAME=a',
}

export const CONFLIST = {
  cniVersion: '1.1.0',
  cniVersions: ['0.4.0', '1.0.0', '1.1.0'],
  name: 'hostile',
  disableCheck: 'false',
  disableGC: false,
  loadOnlyInlinedPlugins: true,
  plugins: [CONFIG, { type: 'portmap', capabilities: { portMappings: true } }],
}

export const SUBNET_FILE = `# tsnet subnet file, format 1, head 4096 bytes, then one line of 128 bytes a lease; see docs/subnet-file.md
network web
set 0
range 10.0.0.2-10.0.0.254 subnet 10.0.0.0/24 gateway 10.0.0.1
exclude 10.0.0.16-10.0.0.31
set 1
range fd00::2-fd00::ffff:ffff:ffff:ffff subnet fd00::/64 gateway fd00::1
#
10.0.0.2 leased 6f1c0e3b9a57:eth0
fd00::2 leased 6f1c0e3b9a57:eth0
10.0.0.3 free 17
10.0.0.4 leased reserved:by-hand
`

export const SUBNET_ENV =
  'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n'

/** What the kernel was asked and has answered. */
export const DATAGRAMS: readonly Buffer[] = ['rtnetlink', 'conntrack'].flatMap((file) =>
  (JSON.parse(readFileSync(`test/golden/${file}.json`, 'utf8')) as { captures: readonly { request: string; answer: string }[] }).captures.flatMap(
    ({ request, answer }) => [Buffer.from(request, 'hex'), Buffer.from(answer, 'hex')],
  ),
)

const field = (text: string) => Buffer.concat([Buffer.from(new Uint32Array([text.length]).buffer), Buffer.from(text)])

/** The agent's protocol. */
export const FRAMES: readonly Buffer[] = [
  encodeFrame(
    KIND.request,
    Buffer.alloc(32, 1),
    ...[
      'build',
      '/run/tsnet',
      '',
      'token',
      'tsnet',
      Object.entries(ENVIRONMENT)
        .map((pair) => pair.join('='))
        .join('\0'),
      JSON.stringify(CONFIG),
    ].map(field),
  ),
  encodeFrame(KIND.statusRequest),
]

export const DBUS: readonly Buffer[] = [
  encodeCall({
    serial: 1,
    destination: 'org.freedesktop.DBus',
    path: '/org/freedesktop/DBus',
    interface: 'org.freedesktop.DBus',
    member: 'Hello',
    arguments: ['a', 'b'],
  }),
]
