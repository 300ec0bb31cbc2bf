/** Attachments whose DEL never came: of a former boot, of a namespace that is gone, of a runtime that was killed. */
import assert from 'node:assert/strict'
import { readlinkSync, statSync, writeFileSync } from 'node:fs'
import { type CniCall, DUAL_STACK, type Host, hostTest, TSNET } from './host.ts'
import { eventually } from './machine.ts'
import { assertNothingLeft, assertRefused, leasesOf, readState, stateFiles } from './state.ts'

/** Two addresses, and no more. */
const TINY = { ...DUAL_STACK, ipam: { ranges: [[{ subnet: '10.50.0.0/24', rangeStart: '10.50.0.2', rangeEnd: '10.50.0.3' }]] } }
const publish = (hostPort: number) => ({ portMappings: [{ hostPort, containerPort: 80, protocol: 'tcp' }] })

/** As after a loss of power with the state folder on a disk: the files are there, nothing else is. */
function reboot(host: Host, ...ids: readonly string[]): void {
  for (const id of ids) host.sh(`ip netns del ${id}`)
  host.sh('ip link del br-net 2>/dev/null || true; for t in inet bridge; do nft delete table $t tsnet 2>/dev/null || true; done')
  host.sh('for i in iptables ip6tables; do for t in raw nat filter; do $i -t $t -F; $i -t $t -X; done; done')
  for (const path of stateFiles(host).filter((name) => name.startsWith('attachments/'))) {
    const record = JSON.parse(readState(host, path))
    writeFileSync(host.machine.path(`/run/tsnet/${path}`), JSON.stringify({ ...record, bootId: '00000000-0000-4000-8000-000000000000' }))
  }
}

hostTest('after a reboot with the state on a disk, an ADD that finds the pool full takes the addresses of the former boot', (host) => {
  for (const id of ['c1', 'c2']) host.mustCni('ADD', { id, netns: host.container(id), conf: TINY, runtimeConfig: publish(id === 'c1' ? 8080 : 8081) })
  reboot(host, 'c1', 'c2')
  // The port that it publishes is a dead one's, too.
  const call = { id: 'c3', netns: host.container('c3'), conf: TINY, runtimeConfig: publish(8080) }
  host.mustCni('ADD', call)
  assert.equal(leasesOf(host).length, 1)
  assert.match(leasesOf(host)[0] ?? '', / c3:eth0$/)
  host.mustCni('CHECK', { ...call, prevResult: {} })
  host.mustCni('DEL', call)
  assertNothingLeft(host)
})

hostTest('after a reboot, STATUS does not call a pool full that only the dead fill, and gc gives all of it back', (host) => {
  for (const id of ['c1', 'c2']) host.mustCni('ADD', { id, netns: host.container(id), conf: TINY })
  assert.equal(host.cni('STATUS', { conf: TINY }).json.code, 50)
  reboot(host, 'c1', 'c2')
  host.mustCni('STATUS', { conf: TINY })
  assert.deepEqual(leasesOf(host), [])
  const again = ['c1', 'c2'].map((id) => ({ id, netns: host.container(id), conf: TINY, runtimeConfig: publish(id === 'c1' ? 8080 : 8081) }))
  for (const call of again) host.mustCni('ADD', call)
  reboot(host, 'c1', 'c2')
  assert.equal(host.exec([TSNET, 'gc']), 'c1\teth0\t10.50.0.2/24\tnet\nc2\teth0\t10.50.0.3/24\tnet\n')
  assertNothingLeft(host)
})

hostTest('the same container and interface can be added again after an unclean stop', (host) => {
  const call = { id: 'c1', netns: host.container('c1'), conf: TINY, runtimeConfig: publish(8080) }
  host.mustCni('ADD', call)
  reboot(host, 'c1')
  host.container('c1')
  host.mustCni('ADD', call)
  host.mustCni('CHECK', { ...call, prevResult: {} })
  assert.equal(leasesOf(host).length, 1)
  host.mustCni('DEL', call)
  assertNothingLeft(host)
})

hostTest('an ADD that finds pool or port taken by a vanished namespace takes them over, of another network too', (host) => {
  const other = { ...DUAL_STACK, name: 'other', bridge: 'br-other', ipam: { subnet: '10.51.0.0/24' } }
  host.mustCni('ADD', { id: 'c1', netns: host.container('c1'), conf: other, runtimeConfig: publish(8080) })
  host.mustCni('ADD', { id: 'c2', netns: host.container('c2'), conf: TINY })
  host.sh('ip netns del c1; ip netns del c2')
  const [c3, c4] = [host.container('c3'), host.container('c4')]
  host.mustCni('ADD', { id: 'c3', netns: c3, conf: TINY, runtimeConfig: publish(8080) })
  host.mustCni('ADD', { id: 'c4', netns: c4, conf: TINY })
  assert.deepEqual(
    leasesOf(host)
      .map((lease) => lease.replace(/.* /, ''))
      .sort(),
    ['c3:eth0', 'c4:eth0'],
  )
  for (const id of ['c3', 'c4']) host.mustCni('DEL', { id, conf: TINY })
  assertNothingLeft(host)
})

hostTest('what lives keeps its address and port, however much they are wanted', async (host) => {
  const calls: readonly CniCall[] = ['c1', 'c2'].map((id) => ({
    id,
    netns: host.container(id),
    conf: TINY,
    runtimeConfig: publish(id === 'c1' ? 8080 : 8081),
  }))
  for (const call of calls) host.mustCni('ADD', call)
  // The path is gone and the namespace lives: a process is in it.
  const sleeper = host.start(['ip', 'netns', 'exec', 'c1', 'sleep', '60'])
  const inode = statSync(host.machine.path('/run/netns/c1')).ino
  await eventually('the process is in the namespace', () => readlinkSync(`/proc/${sleeper.pid}/ns/net`) === `net:[${inode}]`)
  host.sh('ip netns del c1')
  const late = { id: 'c3', netns: host.container('c3'), conf: TINY }
  assertRefused(host, 'ADD', late, 11)
  assertRefused(host, 'ADD', { ...late, conf: { ...TINY, ipam: { subnet: '10.50.0.0/24' } }, runtimeConfig: publish(8080) }, 103)
  assert.equal(host.exec([TSNET, 'gc']), '')
  assert.equal(leasesOf(host).length, 2)
  sleeper.kill('SIGKILL')
  for (const call of calls) host.mustCni('DEL', { ...call, netns: '' })
  assertNothingLeft(host)
})

hostTest('leases that no record names are given back by gc and by the next ADD that needs one', (host) => {
  host.mustCni('ADD', { id: 'c1', netns: host.container('c1'), conf: TINY })
  host.sh("printf '10.50.0.3 leased ghost:eth1\\n' >>/run/tsnet/networks/net/subnet")
  host.mustCni('ADD', { id: 'c2', netns: host.container('c2'), conf: TINY })
  host.mustCni('DEL', { id: 'c2', conf: TINY })
  host.sh("sed -i 's/^10.50.0.3 free.*/10.50.0.3 leased ghost:eth1/' /run/tsnet/networks/net/subnet")
  assert.equal(host.exec([TSNET, 'gc']), 'ghost\teth1\t-\tnet\n')
  assert.equal(leasesOf(host).length, 1)
  host.mustCni('DEL', { id: 'c1', conf: TINY })
  assertNothingLeft(host)
})

hostTest('the lease of a living container whose record was deleted stays, whoever needs it', (host) => {
  host.mustCni('ADD', { id: 'c1', netns: host.container('c1'), conf: TINY })
  host.mustCni('ADD', { id: 'c2', netns: host.container('c2'), conf: TINY })
  host.sh('rm /run/tsnet/attachments/net/c1:eth0.json')
  const leases = leasesOf(host)
  assert.equal(host.exec([TSNET, 'gc']), '')
  assertRefused(host, 'ADD', { id: 'c3', netns: host.container('c3'), conf: TINY }, 11)
  host.mustCni('GC', { conf: { ...TINY, 'cni.dev/valid-attachments': [{ containerID: 'c2', ifname: 'eth0' }] } })
  assert.deepEqual(leasesOf(host), leases)
  for (const id of ['c1', 'c2']) host.mustCni('DEL', { id, conf: TINY })
  assertNothingLeft(host)
})
