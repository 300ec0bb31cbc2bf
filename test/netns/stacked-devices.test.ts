import assert from 'node:assert/strict'
import { Device, linkOf, linksOf } from './device.ts'
import { type CniDocument, hostTest } from './host.ts'
import { hasFeature, skipsWithout } from './kernel-feature.ts'
import { stateFiles } from './state.ts'

/** What the kernel says of an interface, and in which ways CHECK must find it wrong. */
interface Scenario {
  readonly type: 'vlan' | 'ipvlan' | 'dummy'
  readonly keys: object
  readonly data: Readonly<Record<string, unknown>> | undefined
  readonly mtu: number
  readonly spoil: string
  readonly found: RegExp
}

const SCENARIOS: readonly Scenario[] = [
  {
    type: 'vlan',
    keys: { master: 'uplink', vlanId: 7, mtu: 1300 },
    data: { protocol: '802.1Q', id: 7, flags: ['REORDER_HDR'] },
    mtu: 1300,
    spoil: 'ip link set eth0 mtu 1280',
    found: /MTU is 1280, not 1300/,
  },
  {
    type: 'ipvlan',
    keys: { master: 'uplink', mode: 'l3s', mtu: 1300 },
    data: { mode: 'l3s', bridge: true },
    mtu: 1300,
    spoil: 'ip link set eth0 type ipvlan mode l3',
    found: /mode is another/,
  },
  { type: 'dummy', keys: {}, data: undefined, mtu: 1500, spoil: 'ip link set eth0 down', found: /is down/ },
]

for (const { type, keys, data, mtu, spoil, found } of SCENARIOS) {
  hostTest(`${type}: ADD, CHECK, DEL and GC`, (host, t) => {
    if (skipsWithout(type, host, t)) return
    const netns = host.container('c1')
    const device = new Device(host, { type, ipam: true, ...keys })
    device.must('STATUS')
    const prevResult = device.must('ADD', { netns })
    const link = linkOf(netns, 'eth0')
    assert.deepEqual([link?.linkinfo?.info_kind, link?.linkinfo?.info_data, link?.mtu, link?.flags.includes('UP')], [type, data, mtu, true])
    assert.deepEqual(prevResult.interfaces, [{ name: 'eth0', mac: link?.address, mtu, sandbox: netns.path }])
    assert.deepEqual([prevResult.ips?.[0]?.interface, Object.keys(prevResult.dns ?? {}).length], [0, 2])
    assert.equal(device.call('ADD', { netns }).json.code, 101)
    device.must('CHECK', { netns, prevResult })
    netns.sh(spoil)
    assert.match(device.call('CHECK', { netns, prevResult }).json.msg ?? '', found)
    host.sh('ip route flush default; ip -6 route flush default')
    device.must('DEL', { netns, prevResult })
    assert.deepEqual([linksOf(netns).length, device.leases(), stateFiles(host)], [1, '', []])
    device.must('ADD', { netns })
    device.must('GC', { conf: { 'cni.dev/valid-attachments': [] } })
    assert.deepEqual([linksOf(netns).length, device.leases(), stateFiles(host)], [1, '', []])
    device.fail('ADD')
    assert.equal(device.call('ADD', { netns }).json.code, 11)
    assert.equal(linksOf(netns).length, 1)
    assert.equal(device.call('ADD', { netns, conf: { ipam: null } }).json.code, 7)
    // What an administrator has taken out of a definition must not keep DEL from succeeding.
    device.must('DEL', { netns: '', conf: { ipam: null, master: 'gone' } })
  })
}

hostTest('ipvlan in a chain stands on the interface before it, with the addresses of that', (host, t) => {
  if (skipsWithout('ipvlan', host, t)) return
  const netns = host.container('c1')
  const device = new Device(host, { type: 'ipvlan' })
  const previous = (...names: readonly string[]) => ({
    cniVersion: '1.1.0',
    interfaces: names.map((name) => ({ name })),
    ips: [{ address: '10.99.0.60/24' }],
  })
  const result = device.must('ADD', { netns, prevResult: previous('uplink') })
  assert.deepEqual([result.interfaces?.length, result.ips], [1, [{ address: '10.99.0.60/24', interface: 0 }]])
  assert.equal(linkOf(netns, 'eth0')?.link_index, linkOf(host, 'uplink')?.ifindex)
  netns.exec(['ping', '-c1', '-W5', '10.99.0.2'])
  device.must('CHECK', { netns, prevResult: result })
  // A later plugin of the chain may have added an interface of its own.
  device.must('DEL', { netns, prevResult: { ...result, interfaces: [...(result.interfaces ?? []), { name: 'ifb0' }] } as CniDocument })
  assert.match(device.call('ADD', { netns, prevResult: previous('a', 'b') }).json.msg ?? '', /lacks a single named interface/)
  assert.equal(linksOf(netns).length, 1)
})

hostTest('a kernel without the kind is an error that names it', (host) => {
  const netns = host.container('c1')
  for (const { type, keys } of SCENARIOS) {
    if (hasFeature(type, host)) continue
    const device = new Device(host, { type, ipam: true, ...keys })
    for (const command of ['ADD', 'STATUS']) {
      const { json } = device.call(command, { netns })
      assert.deepEqual([json.code, json.msg?.includes(`"${type}": the kernel has none`)], [50, true], json.msg)
    }
    assert.deepEqual([linksOf(netns).length, device.leases(), stateFiles(host)], [1, '', []])
    device.must('DEL', { netns })
  }
})

hostTest('vlan refuses what its master or the standard does not allow', (host) => {
  const netns = host.container('c1')
  const device = new Device(host, { type: 'vlan', ipam: true, master: 'uplink', vlanId: 7 })
  for (const [conf, text] of [
    [{ vlanId: 4095 }, /invalid VLAN ID 4095 \(must be between 0 and 4094 inclusive\)/],
    [{ vlanId: -1 }, /invalid VLAN ID -1/],
    [{ master: '' }, /"master" field is required/],
    [{ mtu: 1401 }, /invalid MTU 1401, must be \[0, master MTU\(1400\)\]/],
    [{ master: 'eth9' }, /there is no interface "eth9"/],
  ] as const) {
    const { json } = device.call('ADD', { netns, conf })
    assert.equal(json.code, 7)
    assert.match(json.msg ?? '', text)
  }
  assert.deepEqual(stateFiles(host), [])
})
