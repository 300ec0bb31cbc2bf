import assert from 'node:assert/strict'
import { join } from 'node:path'
import { ADDRESSES, addressIn, type CniCall, hostTest } from './host.ts'
import { assertSame, snapshot, stateFiles } from './state.ts'

const PTP = join(process.cwd(), 'dist/bin/ptp')
const IPAM = {
  type: 'host-local',
  dataDir: '/run/leases',
  ranges: [[{ subnet: '10.50.0.0/24' }], [{ subnet: 'fd00:50::/64' }]],
  routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
}
const CONF = { cniVersion: '1.1.0', name: 'net', type: 'ptp', ipMasq: true, ipam: IPAM }

const call = (more: CniCall = {}): CniCall => ({ conf: CONF, ...more, program: PTP, env: { CNI_PATH: join(process.cwd(), 'dist/bin'), ...more.env } })

hostTest('ptp: containers reach host, each other and far machines at once, with both families', async (host) => {
  const [first, second] = [host.container('c1'), host.container('c2')]
  const [result, other] = [
    host.mustCni('ADD', call({ netns: first, runtimeConfig: { mac: '02:11:22:33:44:55' } })),
    host.mustCni('ADD', call({ id: 'c2', netns: second })),
  ]
  assert.match(first.exec(['ip', 'link', 'show', 'eth0']), /02:11:22:33:44:55/)
  for (const family of [4, 6] as const) {
    const address = addressIn(result, family)
    host.exec(['ping', '-c', '1', '-W', '1', address])
    second.exec(['ping', '-c', '1', '-W', '1', address])
    first.exec(['ping', '-c', '1', '-W', '1', addressIn(other, family)])
  }
  await host.outside.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port: 90 }, 'far')
  assert.equal((await first.talker.ask({ protocol: 'tcp', address: ADDRESSES[4].far, port: 90 })).peer, ADDRESSES[4].host)
  host.mustCni('CHECK', call({ netns: first, prevResult: result }))
  host.sh('ip route del 10.50.0.2')
  const { json } = host.cni('CHECK', call({ netns: first, prevResult: result }))
  assert.deepEqual([json.code, /route to 10\.50\.0\.2\/32/.test(json.msg ?? '')], [104, true], json.msg)
})

hostTest('ptp: what ADD makes goes by DEL without namespace, by GC and by its own failure', (host) => {
  const [netns, second] = [host.container('c1'), host.container('c2')]
  // The first ADD turns forwarding on, which stays.
  host.mustCni('ADD', call({ netns }))
  host.mustCni('DEL', call({ netns }))
  const before = snapshot(host)
  const assertNothing = (what: string) => {
    assertSame(snapshot(host), before, what)
    assert.deepEqual(
      stateFiles(host).filter((path) => path.startsWith('chained/')),
      [],
    )
    assert.doesNotMatch(host.exec(['ls', '/run/leases/net']), /^[\da-f]+[.:]\S*$/m)
  }
  host.mustCni('ADD', call({ netns }))
  host.mustCni('DEL', call())
  assertNothing('DEL without namespace')
  for (const [id, path] of [
    ['c1', netns],
    ['c2', second],
  ] as const)
    host.mustCni('ADD', call({ id, netns: path }))
  host.mustCni('GC', call({ conf: { ...CONF, 'cni.dev/valid-attachments': [] } }))
  assertNothing('GC')
  assert.equal(host.cni('ADD', call({ netns, conf: { ...CONF, ipam: undefined } })).json.code, 7)
  const withoutGateway = { type: 'static', addresses: [{ address: '10.50.0.5/24' }] }
  assert.equal(host.cni('ADD', call({ netns, conf: { ...CONF, ipam: withoutGateway } })).json.code, 7)
  assertNothing('refused ADDs')
})
