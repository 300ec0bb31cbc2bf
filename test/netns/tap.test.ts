import assert from 'node:assert/strict'
import { Device, linkOf, linksOf } from './device.ts'
import { hostTest } from './host.ts'
import { stateFiles } from './state.ts'

hostTest('tap: owner, group, queues, MTU and MAC address are as configured, in a bridge of the container', (host) => {
  const netns = host.container('c1')
  netns.sh('ip link add vm type bridge')
  const mac = '02:00:00:00:00:42'
  const device = new Device(host, { type: 'tap', owner: 54321, group: 54322, multiQueue: true, mtu: 1300, mac, bridge: 'vm' })
  device.must('STATUS')
  const prevResult = device.must('ADD', { netns })
  assert.deepEqual(prevResult.interfaces, [{ name: 'eth0', mac, mtu: 1300, sandbox: netns.path }])
  const link = linkOf(netns, 'eth0')
  assert.deepEqual([link?.mtu, link?.address, link?.master, link?.flags.includes('UP')], [1300, mac, 'vm', true])
  const { type, pi, vnet_hdr, multi_queue, persist, user, group } = link?.linkinfo?.info_data ?? {}
  assert.deepEqual([type, pi, vnet_hdr, multi_queue, persist, user, group], ['tap', false, true, true, true, 54321, 54322])
  device.must('CHECK', { netns, prevResult })
  device.must('DEL', { netns })
  assert.deepEqual([linksOf(netns).length, stateFiles(host)], [2, []])
})

hostTest('tap: with IPAM it has addresses, and a refusal leaves neither interface nor lease', (host) => {
  const netns = host.container('c1')
  const device = new Device(host, { type: 'tap', ipam: true })
  const prevResult = device.must('ADD', { netns })
  assert.deepEqual(prevResult.ips?.[0], { interface: 0, address: '10.99.0.50/24', gateway: '10.99.0.2' })
  assert.equal(linkOf(netns, 'eth0')?.addr_info[0]?.local, '10.99.0.50')
  const { user, multi_queue } = linkOf(netns, 'eth0')?.linkinfo?.info_data ?? {}
  assert.deepEqual([user, multi_queue], [undefined, false])
  assert.equal(device.call('ADD', { netns }).json.code, 101)
  device.must('GC', { conf: { 'cni.dev/valid-attachments': [] } })
  for (const [code, conf] of [
    [7, { bridge: 'none' }],
    [7, { bridge: 'lo' }],
    [7, { owner: -1 }],
    [7, { selinuxContext: 'a b' }],
    [50, { selinuxContext: 'system_u:system_r:container_t:s0' }],
    [999, { mtu: 60 }],
  ] as const) {
    const { json } = device.call('ADD', { netns, conf })
    assert.equal(json.code, code, json.msg)
    assert.deepEqual([linksOf(netns).length, device.leases(), stateFiles(host)], [1, '', []], json.msg)
  }
})
