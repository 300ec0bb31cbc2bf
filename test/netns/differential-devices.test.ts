import { crossTest, type Difference, type DifferentialCase, differentialTest } from './differential.ts'
import type { Host } from './host.ts'

const HOST_LOCAL = { type: 'host-local', ranges: [[{ subnet: '10.99.0.0/24', rangeStart: '10.99.0.50' }]] }
const DUAL_STACK = { ...HOST_LOCAL, ranges: [...HOST_LOCAL.ranges, [{ subnet: 'fd00:98::/64' }]] }
const STATIC = {
  type: 'static',
  addresses: [{ address: '10.99.0.60/24', gateway: '10.99.0.2' }],
  routes: [{ dst: '0.0.0.0/0' }, { dst: '10.200.0.0/16', gw: '10.99.0.3' }],
  dns: { nameservers: ['10.99.0.2'] },
}

const MTU = differing('interfaces: the result says the MTU', /^add\.result\.interfaces\[.*\]\.mtu/)
const DNS = differing("interfaces: IPAM's dns is kept", /^add\.result\.dns/)
const QUEUE = differing('interfaces: the transmit queue is as long as the kernel makes it', /\[eth0\]\.txqlen/)
const STATIC_ROUTES = differing('interfaces: routes are marked as static', /\.routes[46]\[.*\]\.protocol: "static"/)
const DEL = differing('interfaces: DEL needs no correct configuration', /^(del|delAgain)\.(statuses|failed)|\/var\/lib\/cni\/networks\/net\/lock/)
const ALIAS = differing('host-device: the alias comes back', /^(afterDel|afterDelAgain|left)\.host\..*\[nic0\]\.ifalias/)

/** An interface that the host can do without. */
const prepare = (host: Host) =>
  host.sh('ip link add nic0 address 02:00:00:00:00:05 type veth peer name nic0-peer; ip link set nic0 up; ip link set nic0-peer up')

const MACVLAN: readonly DifferentialCase[] = [
  {
    name: 'macvlan with two families, MTU and MAC address',
    plugins: [plugin('macvlan', { mtu: 1300, ipam: DUAL_STACK })],
    runtimeConfig: { mac: '02:00:00:00:00:77' },
    differences: [MTU, QUEUE],
  },
  {
    name: 'macvlan without IPAM',
    plugins: [plugin('macvlan', { master: 'uplink', mode: 'vepa' })],
    args: 'MAC=02:00:00:00:00:78',
    differences: [MTU, QUEUE],
  },
  {
    name: 'macvlan with static addresses and routes',
    plugins: [plugin('macvlan', { mode: 'private', ipam: STATIC })],
    differences: [MTU, DNS, QUEUE, STATIC_ROUTES],
  },
  {
    name: 'macvlan passthru, as version 0.3.1 says it',
    cniVersion: '0.3.1',
    plugins: [plugin('macvlan', { mode: 'passthru', ipam: HOST_LOCAL })],
    differences: [QUEUE],
  },
  { name: 'macvlan as version 0.2.0 says it', cniVersion: '0.2.0', plugins: [plugin('macvlan', { ipam: HOST_LOCAL })], differences: [QUEUE] },
  {
    name: 'macvlan whose own dns counts',
    plugins: [plugin('macvlan', { ipam: STATIC, dns: { nameservers: ['192.0.2.1'] } })],
    differences: [MTU, QUEUE, STATIC_ROUTES],
  },
  { name: "macvlan with more than the master's MTU", plugins: [plugin('macvlan', { mtu: 1401, ipam: HOST_LOCAL })], differences: [DEL] },
  { name: 'macvlan in an unknown mode', plugins: [plugin('macvlan', { mode: 'hairpin', ipam: HOST_LOCAL })], differences: [DEL] },
]

const HOST_DEVICE: readonly DifferentialCase[] = [
  { name: 'host-device by name', prepare, plugins: [plugin('host-device', { device: 'nic0' })], differences: [MTU, ALIAS] },
  { name: 'host-device with addresses', prepare, plugins: [plugin('host-device', { device: 'nic0', ipam: HOST_LOCAL })], differences: [MTU, ALIAS] },
  {
    name: 'host-device by hardware address, static',
    prepare,
    plugins: [plugin('host-device', { hwaddr: '02:00:00:00:00:05', ipam: STATIC })],
    differences: [MTU, ALIAS, DNS, STATIC_ROUTES],
  },
  { name: 'host-device that does not exist', plugins: [plugin('host-device', { device: 'nic9' })], differences: [DEL] },
]

for (const scenario of [...MACVLAN, ...HOST_DEVICE]) differentialTest(scenario)
for (const scenario of [MACVLAN[2], HOST_DEVICE[1]]) if (scenario !== undefined) crossTest(scenario)

function plugin<K extends object>(type: string, keys: K) {
  return { type, ...keys }
}

function differing(name: string, lines: RegExp): Difference {
  return { name, without: (line) => (lines.test(line) ? undefined : line) }
}
