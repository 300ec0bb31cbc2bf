import { crossTest, type Difference, type DifferentialCase, differentialTest } from './differential.ts'

type Plugins = DifferentialCase['plugins']

/** Called as IPAM plugins are: with the whole configuration of the plugin that delegates, here none. */
const direct = (ipam: object, more: object = {}): Plugins => [{ type: 'host-local', ...more, ...{ ipam: { type: 'host-local', ...ipam } } }]
const SUBNET = { subnet: '10.50.0.0/24' }
const RANGES = [[{ subnet: '10.50.0.0/24' }], [{ subnet: 'fd00:50::/64' }]]
const STATIC = {
  addresses: [{ address: '10.60.0.9/24', gateway: '10.60.0.1' }, { address: 'fd00:60::9/64' }],
  routes: [{ dst: '0.0.0.0/0' }, { dst: 'fd00:61::/64', gw: 'fd00:60::1' }],
  dns: { nameservers: ['192.0.2.1'], domain: 'example.com', search: ['a.example', 'b.example'], options: ['ndots:5'] },
}

const staticPlugin: Plugins = [{ type: 'static', ...{ ipam: { type: 'static', ...STATIC } } }]
const FAILED_ADD: Difference = {
  name: 'host-local: a failed ADD leaves last_reserved_ip alone',
  without: (line) => (/last_reserved_ip/.test(line) ? undefined : line),
}
const DEL_OF_REFUSED: Difference = {
  name: 'host-local: DEL asks for no ranges',
  without: (line) => (/^del(Again)?\./.test(line) ? undefined : line),
}

/** A network in which others have addresses, and the last one was handed out before they came. */
const prepare: DifferentialCase['prepare'] = (host) =>
  void host.sh(`
    mkdir -p /var/lib/cni/networks/net && cd /var/lib/cni/networks/net
    printf 'other\\r\\neth0' > 10.50.0.8; printf 'old' > 10.50.0.9; printf 'c1\\r\\neth1' > 10.50.0.10
    printf 10.50.0.7 > last_reserved_ip.0`)

const CASES: readonly DifferentialCase[] = [
  {
    name: 'host-local with ranges of both families, routes and a folder of its own',
    plugins: direct({ ranges: RANGES, routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0', gw: 'fd00:50::1' }], dataDir: '/var/lib/cni/elsewhere' }),
  },
  {
    name: 'host-local in the old style beside a list, with ranges and an address of the runtime',
    plugins: direct({
      ...SUBNET,
      rangeStart: '10.50.0.20',
      rangeEnd: '10.50.0.21',
      gateway: '10.50.0.254',
      ranges: [[{ subnet: '10.51.0.0/24' }, { subnet: '10.52.0.0/24' }]],
    }),
    runtimeConfig: { ipRanges: [[{ subnet: '10.53.0.0/24', rangeStart: '10.53.0.7' }]], ips: ['10.52.0.99/24'] },
  },
  { name: 'host-local where others have addresses', plugins: direct(SUBNET), prepare },
  {
    name: 'host-local with requested addresses',
    plugins: direct({ ranges: RANGES }, { args: { cni: { ips: ['fd00:50::77'] } } }),
    args: 'IP=10.50.0.66',
  },
  {
    name: 'host-local with a requested address that another has',
    plugins: direct(SUBNET),
    prepare,
    args: 'IgnoreUnknown=1;IP=10.50.0.8;K8S_POD_NAME=x',
  },
  { name: 'host-local with a requested address of no range', plugins: direct(SUBNET), args: 'IP=192.0.2.1', differences: [FAILED_ADD] },
  { name: 'host-local with an exhausted pool', plugins: direct({ ...SUBNET, rangeStart: '10.50.0.8', rangeEnd: '10.50.0.10' }), prepare },
  {
    name: 'host-local with resolv.conf, in version 0.2.0',
    cniVersion: '0.2.0',
    plugins: direct({ ranges: RANGES, resolvConf: '/run/resolv.conf' }),
    prepare: (host) => void host.sh('printf "nameserver 192.0.2.1\\nsearch a.example b.example\\noptions ndots:5\\n" > /run/resolv.conf'),
  },
  { name: 'host-local with a subnet that has host bits', plugins: direct({ subnet: '10.50.0.5/24' }), differences: [DEL_OF_REFUSED] },
  { name: 'static', plugins: staticPlugin },
  {
    name: 'static with CNI_ARGS, in version 0.4.0',
    cniVersion: '0.4.0',
    plugins: staticPlugin,
    args: 'IP=10.61.0.9/24;GATEWAY=10.61.0.1',
  },
  { name: 'static with the capability', plugins: staticPlugin, runtimeConfig: { ips: ['10.62.0.9/24', 'fd00:62::9/64'] } },
]

for (const scenario of CASES) differentialTest(scenario)
crossTest({ name: 'host-local', plugins: direct({ ranges: RANGES }), prepare })
