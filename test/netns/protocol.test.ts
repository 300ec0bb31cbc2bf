import assert from 'node:assert/strict'
import { type CniDocument, type Container, DUAL_STACK, type Host, hostTest } from './host.ts'
import { assertNothingLeft, leasesOf } from './state.ts'

const VERSIONS = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0']
const runtimeConfig = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] }

hostTest('ADD answers in the shape of the version that was asked for', (host) => {
  const netns = host.container('c1')
  for (const cniVersion of VERSIONS) {
    const conf = { ...DUAL_STACK, cniVersion, dns: { nameservers: ['10.99.0.2'] } }
    const result = host.mustCni('ADD', { netns, conf })
    const is = (version: string) => VERSIONS.indexOf(cniVersion) >= VERSIONS.indexOf(version)
    assert.equal(result.cniVersion, cniVersion)
    assert.deepEqual(result.dns, conf.dns)
    assert.deepEqual(
      result.interfaces?.map(({ name, sandbox }) => [name.replace(/^tsn[0-9a-f]{12}$/, 'veth'), sandbox]),
      [
        ['br-net', undefined],
        ['veth', undefined],
        ['eth0', netns.path],
      ],
    )
    for (const { mac } of result.interfaces ?? []) assert.match(mac ?? '', /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/)
    assert.equal(result.interfaces?.[2]?.mtu, is('1.0.0') ? 1400 : undefined)
    assert.deepEqual(
      result.ips?.map(({ version, gateway, interface: index }) => ({ version, gateway, index })),
      [
        { version: is('1.0.0') ? undefined : '4', gateway: '10.50.0.1', index: 2 },
        { version: is('1.0.0') ? undefined : '6', gateway: 'fd00:50::1', index: 2 },
      ],
    )
    assert.deepEqual(result.routes, [
      { dst: '0.0.0.0/0', gw: '10.50.0.1' },
      { dst: '::/0', gw: 'fd00:50::1' },
    ])
    host.mustCni('DEL', { netns, conf, prevResult: result })
  }
  assertNothingLeft(host)
})

hostTest('ADD answers 0.1.0 and 0.2.0 with ip4 and ip6', (host) => {
  const netns = host.container('c1')
  for (const cniVersion of ['0.1.0', '0.2.0', undefined]) {
    const conf = { ...DUAL_STACK, cniVersion }
    const result = host.mustCni('ADD', { netns, conf }) as CniDocument & { readonly ip4?: object; readonly ip6?: object }
    assert.equal(result.cniVersion, cniVersion ?? '0.1.0')
    assert.deepEqual(Object.keys(result).sort(), ['cniVersion', 'dns', 'ip4', 'ip6'])
    assert.match(JSON.stringify(result.ip4), /"10\.50\.0\.\d+\/24","gateway":"10\.50\.0\.1"/)
    assert.match(JSON.stringify(result.ip6), /"fd00:50::[0-9a-f]+\/64","gateway":"fd00:50::1"/)
    host.mustCni('DEL', { netns, conf })
  }
})

hostTest('ADD in a chain keeps what the plugins before made, and points at its own interface', (host) => {
  const netns = host.container('c1')
  const prevResult = {
    cniVersion: '1.1.0',
    interfaces: [{ name: 'other0', sandbox: netns.path }],
    ips: [{ address: '10.70.0.2/24', interface: 0 }],
    routes: [{ dst: '10.71.0.0/16' }],
  }
  const result = host.mustCni('ADD', { netns, prevResult })
  assert.deepEqual(
    result.interfaces?.map(({ name }) => name).filter((name) => !name.startsWith('tsn')),
    ['other0', 'br-net', 'eth0'],
  )
  assert.deepEqual(
    result.ips?.map(({ interface: index }) => index),
    [0, 3, 3],
  )
  assert.equal(result.routes?.length, 3)
})

/** Each takes one thing away; the pattern is what CHECK has to name. */
const DAMAGES: Readonly<Record<string, { readonly act: (host: Host, c: Container) => void; readonly names: RegExp }>> = {
  'a published port is gone': { act: (host) => void host.sh('iptables -t nat -F TSNET-DNAT'), names: /rules?.*TSNET-DNAT/ },
  'an IPv6 jump is gone': { act: (host) => void host.sh('ip6tables -t filter -D FORWARD -j TSNET-FORWARD'), names: /TSNET-FORWARD/ },
  'an address is gone': {
    act: (_, c) => void c.sh('ip addr del "$(ip -4 -o addr show eth0 | awk "{print \\$4}")" dev eth0'),
    names: /address 10\.50\.0\.\d/,
  },
  'a route is gone': { act: (_, c) => void c.sh('ip -6 route del default'), names: /route to ::\/0/ },
  'the interface is down': { act: (_, c) => void c.sh('ip link set eth0 down'), names: /"eth0" up/ },
  'the interface is gone': { act: (_, c) => void c.sh('ip link del eth0'), names: /veth pair/ },
  'the port left its bridge': {
    act: (host) => void host.sh('ip link set dev "$(ip -br link | grep -o "^tsn[0-9a-f]*")" nomaster'),
    names: /veth pair/,
  },
  'hairpin is off': {
    act: (host) => void host.sh('bridge link set dev "$(ip -br link | grep -o "^tsn[0-9a-f]*")" hairpin off'),
    names: /hairpin on/,
  },
  "the bridge's address is gone": { act: (host) => void host.sh('ip addr del 10.50.0.1/24 dev br-net'), names: /10\.50\.0\.1\/24/ },
  'the bridge is down': { act: (host) => void host.sh('ip link set br-net down'), names: /bridge "br-net" up/ },
  'forwarding is off': { act: (host) => void host.sh('echo 0 > /proc/sys/net/ipv4/ip_forward'), names: /ip_forward/ },
  'loopback is down': { act: (_, c) => void c.sh('ip link set lo down'), names: /loopback/ },
  'a lease is gone': { act: (host) => void host.sh("sed -i 's/leased c1:eth0/free 1        /' /run/tsnet/networks/net/subnet"), names: /lease of/ },
}

for (const [name, { act, names }] of Object.entries(DAMAGES)) {
  hostTest(`CHECK succeeds after ADD and fails with 104 when ${name}`, (host) => {
    const netns = host.container('c1')
    const prevResult = host.mustCni('ADD', { netns, runtimeConfig })
    assert.equal(host.cni('CHECK', { netns, runtimeConfig, prevResult }).stdout, '')
    act(host, netns)
    const { status, json } = host.cni('CHECK', { netns, runtimeConfig, prevResult })
    assert.equal(status, 1)
    assert.equal(json.code, 104)
    assert.match(`${json.msg} ${json.details}`, names)
    host.mustCni('DEL', { netns })
    assertNothingLeft(host)
  })
}

hostTest('CHECK needs a prevResult (7), an attachment (3) and a namespace (8)', (host) => {
  const netns = host.container('c1')
  const prevResult = host.mustCni('ADD', { netns })
  assert.equal(host.cni('CHECK', { netns }).json.code, 7)
  assert.equal(host.cni('CHECK', { netns, id: 'unknown', prevResult }).json.code, 3)
  assert.equal(host.cni('CHECK', { netns: '/run/netns/none', prevResult }).json.code, 8)
})

hostTest('GC removes exactly what is not listed, and nothing when no list is given', (host) => {
  const ids = ['a', 'b', 'c']
  for (const id of ids) host.mustCni('ADD', { id, netns: host.container(id) })
  const other = { ...DUAL_STACK, name: 'other', bridge: 'br-other', ipam: { subnet: '10.51.0.0/24' } }
  host.mustCni('ADD', { id: 'd', netns: host.container('d'), conf: other })
  const holders = () => [...new Set(leasesOf(host).map((lease) => lease.replace(/.* /, '')))].sort()
  host.mustCni('GC')
  assert.deepEqual(holders(), ['a:eth0', 'b:eth0', 'c:eth0', 'd:eth0'])
  assert.equal(host.cni('GC', { conf: { ...DUAL_STACK, 'cni.dev/valid-attachments': [{ containerID: 'a' }] } }).json.code, 7)
  host.mustCni('GC', { conf: { ...DUAL_STACK, 'cni.dev/valid-attachments': [{ containerID: 'b', ifname: 'eth0' }] } })
  assert.deepEqual(holders(), ['b:eth0', 'd:eth0'])
  host.mustCni('CHECK', { id: 'b', netns: '/run/netns/b', prevResult: {} })
  host.mustCni('GC', { conf: { ...DUAL_STACK, 'cni.dev/valid-attachments': [] } })
  host.mustCni('GC', { conf: { ...other, 'cni.dev/valid-attachments': [] } })
  assertNothingLeft(host)
})

hostTest('STATUS answers 0 when an ADD could succeed, 50 when the pool is full', (host) => {
  const conf = { ...DUAL_STACK, ipam: { subnet: '10.50.0.0/30' } }
  host.mustCni('STATUS', { conf })
  const netns = host.container('c1')
  host.mustCni('ADD', { netns, conf })
  const { status, json } = host.cni('STATUS', { conf })
  assert.equal(status, 1)
  assert.equal(json.code, 50)
  host.mustCni('DEL', { netns, conf })
  host.mustCni('STATUS', { conf })
})
