import assert from 'node:assert/strict'
import { join } from 'node:path'
import { addressIn, type CniCall, type Host, hostTest } from './host.ts'
import { skipsWithout } from './kernel-feature.ts'

const BRIDGE = join(process.cwd(), 'dist/bin/bridge')
const conf = (more: object) => ({ cniVersion: '1.1.0', name: 'net', type: 'bridge', bridge: 'br-net', ...more })
const IPAM = { type: 'host-local', dataDir: '/run/leases', subnet: '10.50.0.0/24' }

const call = (more: CniCall): CniCall => ({ ...more, program: BRIDGE, env: { CNI_PATH: join(process.cwd(), 'dist/bin') } })

interface PortJson {
  readonly ifname: string
  readonly vlans: readonly { readonly vlan: number; readonly flags?: readonly string[] }[]
}

/** @returns `100*` for the port's own VLAN, `200t` for one whose frames keep their tag. */
function vlansOf(host: Host, port: string): readonly string[] {
  const vlans = host.json<PortJson>('bridge', '-j', 'vlan').find(({ ifname }) => ifname === port)?.vlans ?? []
  return vlans.map(({ vlan, flags = [] }) => `${vlan}${flags.includes('PVID') ? '*' : ''}${flags.includes('Egress Untagged') ? '' : 't'}`)
}

hostTest('bridge: a port is in the VLANs that the definition names, and CHECK looks at them', (host, t) => {
  if (skipsWithout('VLANs on bridges', host, t)) return
  const cases: readonly (readonly [object, readonly string[]])[] = [
    [{ vlan: 100 }, ['100*']],
    [{ vlan: 100, preserveDefaultVlan: true }, ['1', '100*']],
    [{ vlanTrunk: [{ minID: 200, maxID: 201 }, { id: 202 }, { id: 7 }] }, ['1*', '7t', '200t', '201t', '202t']],
    [{ vlan: 100, vlanTrunk: [{ minID: 99, maxID: 101 }] }, ['99t', '100*', '101t']],
  ]
  host.mustCni('STATUS', call({ conf: conf({ vlan: 100 }) }))
  assert.deepEqual(host.json<{ ifname: string }>('ip', '-j', 'link').length, 2, 'STATUS leaves a link')
  const netns = host.container('c1')
  for (const [keys, wanted] of cases) {
    const prevResult = host.mustCni('ADD', call({ netns, conf: conf(keys) }))
    const port = prevResult.interfaces?.[1]?.name ?? ''
    assert.deepEqual(vlansOf(host, port), wanted)
    if (keys === cases[0]?.[0]) {
      host.mustCni('CHECK', call({ netns, conf: conf(keys), prevResult }))
      host.exec(['bridge', 'vlan', 'del', 'vid', '100', 'dev', port])
      assert.equal(host.cni('CHECK', call({ netns, conf: conf(keys), prevResult })).json.code, 104)
    }
    host.mustCni('DEL', call({ netns, conf: conf(keys) }))
  }
})

hostTest('bridge: the gateway of a VLAN has an interface of its own, which goes with the last container', async (host, t) => {
  if (skipsWithout('VLANs on bridges', host, t)) return
  const tagged = conf({ vlan: 100, isGateway: true, ipam: IPAM })
  const [first, second, other] = [host.container('c1'), host.container('c2'), host.container('c3')]
  const result = host.mustCni('ADD', call({ id: 'c1', netns: first, conf: tagged }))
  assert.equal(result.interfaces?.[3]?.name, 'br-net.100')
  host.mustCni('CHECK', call({ id: 'c1', netns: first, conf: tagged, prevResult: result }))
  const beside = host.mustCni('ADD', call({ id: 'c2', netns: second, conf: tagged }))
  host.mustCni('ADD', call({ id: 'c3', netns: other, conf: conf({ vlan: 200, ipam: IPAM }) }))
  const address = addressIn(result, 4)
  host.exec(['ping', '-c', '1', '-W', '3', address])
  second.exec(['ping', '-c', '1', '-W', '3', address])
  assert.notEqual(other.run(['ping', '-c', '1', '-W', '1', address]).status, 0, 'another VLAN')
  const there = () => host.run(['ip', 'link', 'show', 'br-net.100']).status === 0
  assert.notEqual(addressIn(beside, 4), address)
  host.mustCni('DEL', call({ id: 'c1', conf: tagged }))
  assert.ok(there())
  host.mustCni('DEL', call({ id: 'c2', netns: second, conf: tagged }))
  assert.ok(!there())
})

hostTest('bridge: a VLAN on a bridge that lets all of them pass is refused', (host, t) => {
  if (skipsWithout('VLANs on bridges', host, t)) return
  host.exec(['ip', 'link', 'add', 'br-net', 'type', 'bridge'])
  const { json } = host.cni('ADD', call({ netns: host.container('c1'), conf: conf({ vlan: 100 }) }))
  assert.deepEqual([json.code, /vlan_filtering 1/.test(json.details ?? '')], [7, true])
})

hostTest('bridge: a kernel without VLANs on bridges is named as the reason, and nothing is left', (host) => {
  const { status, json } = host.cni('ADD', call({ netns: host.container('c1'), conf: conf({ vlan: 100 }) }))
  if (status === 0) return assert.equal(json.interfaces?.length, 3)
  assert.equal(json.code, 50, json.msg)
  assert.equal(host.cni('STATUS', call({ conf: conf({ vlan: 100 }) })).json.code, 50)
  assert.equal(host.run(['ip', 'link', 'show', 'br-net']).status, 1)
})
