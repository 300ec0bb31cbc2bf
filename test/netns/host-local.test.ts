import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { answered, startAgent } from './agent-process.ts'
import { addressIn, type CniCall, type CniDocument, type Container, type Host, hostTest, TSNET } from './host.ts'

const REFERENCE = '/usr/lib/cni'
const OURS = dirname(TSNET)
const DATA_DIR = '/run/leases'
const RANGES = [[{ subnet: '10.50.0.0/24' }], [{ subnet: 'fd00:50::/64' }]]
const IPAM = { type: 'host-local', dataDir: DATA_DIR, ranges: RANGES }
const CONF = { cniVersion: '1.0.0', name: 'net', type: 'host-local', ipam: IPAM }
const program = (folder: string, type = 'host-local') => ({ program: join(folder, type), env: { CNI_PATH: folder } })

/** @returns `address holder` of every reservation. */
function reservations(host: Host, network = 'net'): readonly string[] {
  const folder = host.machine.path(join(DATA_DIR, network))
  const names = readdirSync(folder).filter((name) => /^[0-9a-f.:]+$/.test(name))
  return names.map((name) => `${name} ${readFileSync(join(folder, name), 'utf8').replace('\r\n', ' ')}`).sort()
}

function refused(host: Host, command: string, call: CniCall): readonly unknown[] {
  const { status, json, stdout } = host.cni(command, call)
  assert.equal(status, 1, stdout)
  return [json.code, json.msg]
}

hostTest('host-local: 40 ADDs of both programs at once get 80 addresses, and either program gives back what the other reserved', async (host) => {
  const netns = host.container('c1')
  const side = (i: number) => program(i % 2 === 0 ? OURS : REFERENCE)
  const call = (command: string, i: number, where: number) =>
    host.cniAsync(command, { id: `c${i}`, netns, conf: CONF, ...side(where) }).then(({ status, stdout, stderr, json }) => {
      assert.equal(status, 0, `${command} ${i}: ${stdout}${stderr}`)
      return json
    })
  const results = await Promise.all(Array.from({ length: 40 }, (_, i) => call('ADD', i, i)))
  const expected = results.flatMap((result, i) => [4, 6].map((family) => `${addressIn(result, family as 4 | 6)} c${i} eth0`)).sort()
  assert.deepEqual(reservations(host), expected)
  assert.equal(new Set(expected.map((line) => line.split(' ')[0])).size, 80)
  await Promise.all(Array.from({ length: 40 }, (_, i) => call('DEL', i, i + (i < 20 ? 1 : 0))))
  assert.deepEqual(reservations(host), [])
})

hostTest("host-local and static: the reference's bridge calls them as programs", (host) => {
  const netns = host.container('c1')
  host.sh(`mkdir -p /run/mixed && cp -P ${OURS}/host-local ${OURS}/static /run/mixed && cp ${REFERENCE}/bridge /run/mixed`)
  const bridge = { cniVersion: '1.0.0', name: 'net', type: 'bridge', bridge: 'br-mixed', isGateway: true }
  const ways = [
    { ipam: IPAM, address: '10.50.0.2/24', left: [] },
    { ipam: { type: 'static', addresses: [{ address: '10.60.0.9/24', gateway: '10.60.0.1' }] }, address: '10.60.0.9/24', left: [] },
  ]
  host.sh(`mkdir -p ${DATA_DIR}/net`)
  for (const { ipam, address, left } of ways) {
    const call = { netns, conf: { ...bridge, ipam }, ...program('/run/mixed', 'bridge') }
    // The other network's gateway would still be on the bridge.
    const prevResult = host.mustCni('ADD', { ...call, conf: { ...call.conf, forceAddress: true } })
    assert.equal(prevResult.ips?.[0]?.address, address)
    assert.match(netns.exec(['ip', 'addr', 'show', 'eth0']), new RegExp(`inet ${address} `))
    host.mustCni('CHECK', { ...call, prevResult })
    host.mustCni('DEL', { ...call, prevResult })
    assert.deepEqual(reservations(host), left)
  }
})

hostTest('host-local: what was never detached is taken over when its namespace has gone, though the next one has its number and path', (host) => {
  const call = (netns: Container): CniCall => ({ netns, conf: CONF, ...program(OURS) })
  const first = host.mustCni('ADD', call(host.container('c1')))
  host.mustCni('ADD', { ...call(host.container('c2')), id: 'c2' })
  assert.deepEqual(refused(host, 'ADD', call(host.container('c3'))), [
    102,
    `failed to allocate for range 0: 10.50.0.2 has been allocated to c1, duplicate allocation is not allowed`,
  ])
  host.sh('ip netns del c1')
  assert.deepEqual(host.mustCni('ADD', call(host.container('c1'))), first)
  assert.equal(reservations(host).length, 4)
})

hostTest('host-local: a full pool is code 11, and STATUS says so before, unless a namespace that has gone makes room', (host) => {
  const conf = { ...CONF, cniVersion: '1.1.0', ipam: { ...IPAM, ranges: [[{ subnet: '10.50.0.0/30', gateway: '10.50.9.1' }]] } }
  const call = (id: string): CniCall => ({ id, netns: host.container(id), conf, ...program(OURS) })
  const status = { conf, ...program(OURS) }
  host.mustCni('STATUS', status)
  for (const id of ['c1', 'c2']) host.mustCni('ADD', call(id))
  const full = 'no IP addresses available in range set: 10.50.0.1-10.50.0.2'
  assert.deepEqual(refused(host, 'STATUS', status), [50, full])
  assert.deepEqual(refused(host, 'ADD', call('c3')), [11, `failed to allocate for range 0: ${full}`])
  host.sh('ip netns del c1')
  host.mustCni('STATUS', status)
  assert.equal(host.mustCni('ADD', call('c4')).ips?.[0]?.address, '10.50.0.1/30')
  host.sh(`mount -t tmpfs -o ro tmpfs ${DATA_DIR}`)
  assert.deepEqual(refused(host, 'STATUS', status), [50, `Cannot write to "${DATA_DIR}": EROFS: read-only file system, access '${DATA_DIR}'`])
  const refusal = host.cni('ADD', call('c5')).json
  assert.deepEqual([refusal.code, refusal.msg?.includes('EROFS')], [5, true], refusal.msg)
})

hostTest('host-local: GC gives back what is not listed, whoever reserved it; CHECK compares with the result', (host) => {
  const netns = host.container('c1')
  const conf = { ...CONF, cniVersion: '1.1.0' }
  const results: Record<string, CniDocument> = {}
  for (const id of ['a', 'b']) results[id] = host.mustCni('ADD', { id, netns, conf, ...program(OURS) })
  for (const id of ['c', 'd']) host.mustCni('ADD', { id, netns, conf: CONF, ...program(REFERENCE) })
  const check = (id: string, prevResult?: CniDocument) =>
    host.cni('CHECK', { id, netns, conf, ...(prevResult && { prevResult }), ...program(OURS) }).json
  assert.deepEqual(check('a', results['a']), {})
  assert.deepEqual([check('c'), check('x').code], [{}, 104])
  assert.deepEqual(check('a', results['b']).msg, 'host-local: container a has not reserved 10.50.0.3, fd00:50::3')
  const gc = (more: object) => host.mustCni('GC', { conf: { ...conf, ...more }, ...program(OURS) })
  const before = reservations(host)
  gc({})
  assert.deepEqual(reservations(host), before, 'nobody said what exists')
  const listed = ['a', 'd', 'x'].map((containerID) => ({ containerID, ifname: 'eth0' }))
  gc({ 'cni.dev/valid-attachments': [...listed, { containerID: 'b', ifname: 'eth1' }] })
  assert.deepEqual(
    reservations(host),
    before.filter((line) => / [ad] /.test(line)),
  )
  gc({ 'cni.dev/valid-attachments': [] })
  assert.deepEqual(reservations(host), [])
})

hostTest('host-local: an empty file of a crash, a file of an old version and another interface of the same container', (host) => {
  const netns = host.container('c1')
  const folder = host.machine.path(join(DATA_DIR, 'net'))
  mkdirSync(folder, { recursive: true })
  const past = Date.now() / 1000 - 60
  writeFileSync(join(folder, '10.50.0.2'), '')
  utimesSync(join(folder, '10.50.0.2'), past, past)
  writeFileSync(join(folder, '10.50.0.3'), 'old')
  const call = (id: string, ifname = 'eth0'): CniCall => ({ id, ifname, netns, conf: CONF, ...program(OURS) })
  assert.equal(host.mustCni('ADD', call('c1')).ips?.[0]?.address, '10.50.0.2/24')
  assert.equal(host.mustCni('ADD', call('c1', 'eth1')).ips?.[0]?.address, '10.50.0.4/24')
  host.mustCni('DEL', call('c1'))
  assert.deepEqual(reservations(host), ['10.50.0.3 old', '10.50.0.4 c1 eth1', 'fd00:50::3 c1 eth1'])
  // Neither the namespace nor the index is there any more, and the ranges are others.
  rmSync(host.machine.path(join(DATA_DIR, '.tsnet')), { recursive: true })
  host.mustCni('DEL', { ...call('old'), netns: '', conf: { ...CONF, ipam: { ...IPAM, ranges: 'x' } } })
  host.mustCni('DEL', { ...call('c1', 'eth1'), netns: '/run/netns/none' })
  host.mustCni('DEL', call('c1', 'eth1'))
  host.mustCni('DEL', { ...call('c1'), conf: { ...CONF, name: 'never' } })
  assert.deepEqual(reservations(host), [])
  assert.deepEqual(readdirSync(host.machine.path(DATA_DIR)).sort(), ['.tsnet', 'net'])
})

hostTest('host-local and static: the agent serves them with the same answers', async (host) => {
  const netns = host.container('c1')
  const agent = await startAgent(host)
  const calls = [
    { conf: CONF, ...program(OURS) },
    { conf: { cniVersion: '0.2.0', name: 'net', type: 'static', ipam: { addresses: [{ address: '10.60.0.9/24' }] } }, ...program(OURS, 'static') },
  ]
  const through = calls.map((call) => host.mustCni('ADD', { netns, ...call }))
  host.mustCni('DEL', { netns, conf: CONF, ...program(OURS) })
  assert.equal(answered(host), 3)
  assert.deepEqual(reservations(host), [])
  assert.equal(await agent.stop(), 0)
  rmSync(host.machine.path(join(DATA_DIR, 'net')), { recursive: true })
  assert.deepEqual(
    calls.map((call) => host.mustCni('ADD', { netns, ...call })),
    through,
  )
})
