import assert from 'node:assert/strict'
import { DUAL_STACK, type Host, hostTest } from './host.ts'
import { removeIptables, restoreIptables } from './iptables-variant.ts'
import { assertNothingLeft, assertRefused } from './state.ts'

const withIpam = (ipam: object) => ({ ...DUAL_STACK, ipam })
const other = (ipam: object) => ({ cniVersion: '1.1.0', name: 'other', type: 'tsnet', ipam })
const SMALL = withIpam({ subnet: '10.50.0.0/29' })

hostTest('ADD refuses subnets that are none with code 7', (host) => {
  const netns = host.container('c1')
  const subnets = [
    'nonsense',
    '10.50.0.0',
    '10.50.0.0/33',
    '10.50.0.7/24',
    '10.50.0.0/31',
    '10.50.0.0/32',
    'fd00::/128',
    '300.0.0.0/8',
    '10.50.0.0/-1',
    '10.50.0.0/024',
  ]
  for (const subnet of subnets) assertRefused(host, 'ADD', { netns, conf: withIpam({ subnet }) }, 7)
  const ranges: readonly object[] = [
    { subnet: '10.50.0.0/24', rangeStart: '10.51.0.1' },
    { subnet: '10.50.0.0/24', rangeStart: '10.50.0.9', rangeEnd: '10.50.0.8' },
    { subnet: '10.50.0.0/24', gateway: 'fd00::1' },
    { subnet: '10.50.0.0/24', gateway: '10.50.0.255' },
    { ranges: [[{ subnet: '10.50.0.0/24' }, { subnet: '10.50.0.0/25' }]] },
    { ranges: [[{ subnet: '10.50.0.0/24' }, { subnet: 'fd00:50::/64' }]] },
    { ranges: [[]] },
    { ranges: 'none' },
    { subnet: '10.50.0.0/24', exclude: ['10.60.0.1'] },
    { subnet: '10.50.0.0/24', routes: [{ dst: 'everywhere' }] },
  ]
  for (const ipam of ranges) assertRefused(host, 'ADD', { netns, conf: withIpam(ipam) }, 7)
  assertRefused(host, 'ADD', { netns, conf: withIpam({ type: 'dhcp' }) }, 2)
  for (const bridge of ['br/0', 'x'.repeat(16), 'br+', '-j DROP', '..']) assertRefused(host, 'ADD', { netns, conf: { ...DUAL_STACK, bridge } }, 7)
  for (const mtu of [-1, 1.5, 70_000, '1400']) assertRefused(host, 'ADD', { netns, conf: { ...DUAL_STACK, mtu } }, 7)
  assertNothingLeft(host)
})

hostTest("ADD refuses a subnet that overlaps another network's with code 7, naming it", (host) => {
  host.mustCni('ADD', { id: 'first', netns: host.container('first') })
  const netns = host.container('c1')
  for (const subnet of ['10.50.0.0/24', '10.50.0.128/25', '10.48.0.0/14', 'fd00:50::/64', 'fd00:50::/80']) {
    assert.match(assertRefused(host, 'ADD', { netns, conf: other({ subnet }) }, 7).msg ?? '', /network "net"|br-net/)
  }
  assertRefused(host, 'ADD', { netns, conf: { ...other({ subnet: '10.51.0.0/24' }), bridge: 'br-net' } }, 7)
  host.mustCni('ADD', { netns, conf: other({ subnet: '10.51.0.0/24' }) })
})

hostTest("ADD refuses a subnet that overlaps an on-link route of the host with code 7; its own bridge's is none", (host) => {
  const netns = host.container('c1')
  for (const subnet of ['10.99.0.0/24', '10.99.0.128/25', '10.98.0.0/15', 'fd00:99::/64']) {
    assert.match(assertRefused(host, 'ADD', { netns, conf: withIpam({ subnet }) }, 7).msg ?? '', /uplink/)
  }
  host.sh('ip route add 10.60.0.0/16 dev uplink; ip route add 10.61.0.0/16 via 10.99.0.2')
  assertRefused(host, 'ADD', { netns, conf: withIpam({ subnet: '10.60.7.0/24' }) }, 7)
  host.sh('ip link add br-net type bridge; ip addr add 10.62.0.1/24 dev br-net; ip link set br-net up')
  for (const subnet of ['10.61.7.0/24', '10.62.0.0/24']) {
    host.mustCni('ADD', { netns, conf: withIpam({ subnet }) })
    host.mustCni('DEL', { netns, conf: withIpam({ subnet }) })
  }
})

hostTest('ADD refuses with code 11 when the pool is full, and names the range', (host) => {
  for (let i = 0; i < 5; i++) host.mustCni('ADD', { id: `c${i}`, netns: host.container(`c${i}`), conf: SMALL })
  const full = host.container('full')
  assert.match(assertRefused(host, 'ADD', { id: 'full', netns: full, conf: SMALL }, 11).msg ?? '', /10\.50\.0\.2-10\.50\.0\.6/)
  host.mustCni('DEL', { id: 'c3', conf: SMALL })
  assert.equal(host.mustCni('ADD', { id: 'full', netns: full, conf: SMALL }).ips?.[0]?.address, '10.50.0.5/29')
})

hostTest('ADD refuses a requested address outside the range with code 7, a taken one with code 102', (host) => {
  const conf = withIpam({ ranges: [[{ subnet: '10.50.0.0/24', rangeStart: '10.50.0.10', rangeEnd: '10.50.0.20', exclude: ['10.50.0.15'] }]] })
  const netns = host.container('c1')
  host.mustCni('ADD', { id: 'holder', netns: host.container('holder'), conf, args: 'IP=10.50.0.12' })
  for (const address of ['10.60.0.1', '10.50.0.9', '10.50.0.21', '10.50.0.1', '10.50.0.15', '10.50.0.255', 'fd00::7', 'nonsense']) {
    assertRefused(host, 'ADD', { netns, conf, args: `IP=${address}` }, 7)
    assertRefused(host, 'ADD', { netns, conf, runtimeConfig: { ips: [address] } }, 7)
  }
  assert.match(assertRefused(host, 'ADD', { netns, conf, args: 'IP=10.50.0.12' }, 102).msg ?? '', /holder/)
  for (const mac of ['nonsense', '01:00:5e:00:00:01', '00:00:00:00:00:00', '02:00:00:00:00'])
    assertRefused(host, 'ADD', { netns, conf, runtimeConfig: { mac } }, 7)
})

hostTest('ADD refuses bad published ports with code 7', (host) => {
  const netns = host.container('c1')
  const fine = { hostPort: 8080, containerPort: 80, protocol: 'tcp' }
  const mappings = [
    { ...fine, hostPort: 70_000 },
    { ...fine, hostPort: -1 },
    { ...fine, hostPort: '8080' },
    { ...fine, hostPort: 80.5 },
    { ...fine, containerPort: 0 },
    { ...fine, containerPort: 70_000 },
    { hostPort: 8080 },
    { hostPort: 0 },
    { ...fine, protocol: 'icmp' },
    { ...fine, protocol: 'tcp -j ACCEPT' },
    { ...fine, hostIP: 'nonsense' },
    { ...fine, hostIP: '10.0.0.1/8' },
    { ...fine, hostPort: 65_530, range: 11 },
    { ...fine, hostPort: 0, containerPort: 65_530, range: 11 },
    { ...fine, hostIP: '192.0.2.1' },
    { ...fine, range: -1 },
  ]
  for (const mapping of mappings) assertRefused(host, 'ADD', { netns, runtimeConfig: { portMappings: [mapping] } }, 7)
  assertRefused(host, 'ADD', { netns, runtimeConfig: { portMappings: fine } }, 7)
  assertRefused(
    host,
    'ADD',
    { netns, runtimeConfig: { portMappings: [{ ...fine, hostIP: 'fd00::1' }] }, conf: withIpam({ subnet: '10.50.0.0/24' }) },
    7,
  )
  assertNothingLeft(host)
})

hostTest('without iptables ADD is refused with code 50 and STATUS says so, DEL of nothing succeeds', (host) => {
  const netns = host.container('c1')
  refusedWithoutIptables(host, () => {
    assert.match(refused(host, 'ADD', { netns }).msg ?? '', /iptables/)
    assert.equal(host.cni('STATUS').json.code, 50)
    assert.equal(host.cni('DEL', { netns }).status, 0)
  })
  assertNothingLeft(host)
  host.mustCni('STATUS')
  host.mustCni('ADD', { netns })
  const second = host.container('c2')
  refusedWithoutIptables(host, () =>
    refused(host, 'ADD', { id: 'c2', netns: second, runtimeConfig: { portMappings: [{ hostPort: 80, containerPort: 80 }] } }),
  )
})

function refused(host: Host, command: string, call: object) {
  const links = host.exec(['ip', '-j', 'addr'])
  const { status, json } = host.cni(command, call)
  assert.equal(json.code, 50)
  assert.equal(status, 1)
  assert.equal(host.exec(['ip', '-j', 'addr']), links)
  return json
}

function refusedWithoutIptables(host: Host, act: () => unknown): void {
  removeIptables(host)
  try {
    act()
  } finally {
    restoreIptables(host)
  }
}
