import assert from 'node:assert/strict'
import { hostTest, LOOPBACK } from './host.ts'

const CONF = { cniVersion: '1.0.0', name: 'lo', type: 'loopback' }

hostTest('loopback reports the addresses that lo has, passes prevResult, and refuses a lo with others', (host) => {
  const netns = host.container('c1')
  const call = { netns, conf: CONF, ifname: 'lo', program: LOOPBACK }
  const result = host.mustCni('ADD', call)
  const mac = '00:00:00:00:00:00'
  assert.deepEqual(result.interfaces, [{ name: 'lo', mac, sandbox: netns.path }])
  assert.deepEqual(
    result.ips?.map(({ address }) => address),
    ['127.0.0.1/8', '::1/128'],
  )
  host.mustCni('CHECK', { ...call, prevResult: result })
  const prevResult = { cniVersion: '1.0.0', interfaces: [{ name: 'eth0', sandbox: netns.path }], ips: [{ address: '10.1.1.1/24', interface: 0 }] }
  assert.deepEqual(host.mustCni('ADD', { ...call, prevResult }), prevResult)
  host.mustCni('DEL', call)
  host.mustCni('CHECK', { ...call, prevResult: result })
  netns.sh('ip link set lo down; ip addr add 10.1.1.1/32 dev lo')
  const { json } = host.cni('ADD', call)
  assert.match(json.msg ?? '', /loopback interface found with non-loopback address "10\.1\.1\.1"/)
  assert.equal(host.cni('CHECK', { ...call, prevResult: result }).json.code, 104)
  assert.equal(host.cni('ADD', { ...call, netns: '/proc/self/ns/net' }).json.code, 8)
})
