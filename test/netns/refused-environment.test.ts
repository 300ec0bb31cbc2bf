import assert from 'node:assert/strict'
import { DUAL_STACK, type Host, hostTest } from './host.ts'
import { assertNothingLeft, assertRefused } from './state.ts'

hostTest('ADD refuses standard input that is no JSON, is empty or too long, with code 6', (host) => {
  const netns = host.container('c1')
  const inputs = [
    '',
    '   \n',
    'no JSON',
    '{"name":',
    '[]',
    '"text"',
    'null',
    JSON.stringify({ ...DUAL_STACK, filler: 'x'.repeat(10_000_000) }),
    'x'.repeat(10_000_000),
  ]
  for (const conf of inputs) assertRefused(host, 'ADD', { netns, conf }, 6)
  assertNothingLeft(host)
})

hostTest('ADD refuses a missing or bad name with code 7, an unknown version with code 1', (host) => {
  const netns = host.container('c1')
  for (const name of [undefined, '', '../up', 'a/b', '-dash', '.dot', 'white space', 'näme', 'x'.repeat(201), 'line\nbreak']) {
    assertRefused(host, 'ADD', { netns, conf: { ...DUAL_STACK, name } }, 7)
  }
  for (const cniVersion of ['0.0.1', '1.0', '2.0.0', '1.1.0 ', 'latest'])
    assertRefused(host, 'ADD', { netns, conf: { ...DUAL_STACK, cniVersion } }, 1)
})

hostTest('ADD names every missing variable at once, with code 4', (host) => {
  const gone = { CNI_CONTAINERID: undefined, CNI_NETNS: undefined, CNI_IFNAME: undefined }
  const { msg } = assertRefused(host, 'ADD', { env: gone }, 4)
  for (const name of Object.keys(gone)) assert.match(msg ?? '', new RegExp(name))
  for (const name of Object.keys(gone)) {
    const text = assertRefused(host, 'ADD', { netns: '/run/netns/c1', env: { [name]: '' } }, 4).msg
    assert.match(text ?? '', new RegExp(`\\[${name}\\]`))
  }
  assertRefused(host, 'ATTACH', {}, 4)
})

hostTest('ADD refuses bad container ids and interface names with code 4', (host) => {
  const netns = host.container('c1')
  for (const id of ['../x', 'a/b', '-x', '.x', 'white space', 'x'.repeat(201), 'ü', 'a:b', '$(reboot)']) assertRefused(host, 'ADD', { netns, id }, 4)
  for (const ifname of ['', 'a'.repeat(16), 'eth/0', '..', '.', 'eth 0', 'eth:0', 'eth%d', 'eth\t0', 'éééééééé'])
    assertRefused(host, 'ADD', { netns, ifname }, 4)
  assertNothingLeft(host)
})

hostTest('ADD refuses what is no network namespace of its own with code 8, and does not wait for a fifo', (host) => {
  host.sh('mkdir -p /run/t/dir; touch /run/t/file; mkfifo /run/t/fifo; ln -s nowhere /run/t/dangling')
  const paths = [
    '/run/netns/none',
    '/run/t/file',
    '/run/t/dir',
    '/run/t/fifo',
    '/run/t/dangling',
    '/run/t/file/below',
    '/dev/null',
    'relative',
    '/proc/self/ns/mnt',
    '/proc/1/ns/uts',
  ]
  for (const netns of paths) assertRefused(host, 'ADD', { netns }, 8)
  const own = assertRefused(host, 'ADD', { netns: '/proc/self/ns/net' }, 8)
  assert.match(own.msg ?? '', /runs in/)
  assertRefused(host, 'ADD', { netns: `/proc/${host.machine.pid}/ns/net` }, 8)
  assertNothingLeft(host)
})

hostTest('ADD refuses an interface name that the container has already, with code 101', (host) => {
  const netns = host.container('c1')
  netns.exec(['ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'other'])
  const before = netns.exec(['ip', '-j', '-d', 'addr'])
  assertRefused(host, 'ADD', { netns }, 101)
  assertRefused(host, 'ADD', { netns, ifname: 'lo' }, 101)
  assert.equal(netns.exec(['ip', '-j', '-d', 'addr']), before)
  host.mustCni('ADD', { netns, ifname: 'eth1' })
  assertRefused(host, 'ADD', { netns, ifname: 'eth1' }, 101)
  assertRefused(host, 'ADD', { id: 'another', netns, ifname: 'eth1' }, 101)
  host.mustCni('DEL', { netns, ifname: 'eth1' })
  assertNothingLeft(host)
})

hostTest('CNI_ARGS that nobody knows are refused with code 4 unless IgnoreUnknown is set', (host) => {
  const netns = host.container('c1')
  for (const args of ['NOSUCH=1', 'K8S_POD_NAME=a;IP=10.50.0.9', 'IgnoreUnknown=maybe', 'IP', 'IP=1=2'])
    assertRefused(host, 'ADD', { netns, args }, 4)
  host.mustCni('ADD', { netns, args: 'IgnoreUnknown=1;K8S_POD_NAME=a' })
})

hostTest('commands that a version does not know are refused with code 1', (host) => {
  const refuse = (command: string, cniVersion: string) =>
    assertRefused(host, command, { netns: host.machine.path('/run'), conf: { ...DUAL_STACK, cniVersion } }, 1)
  refuse('CHECK', '0.3.1')
  for (const command of ['GC', 'STATUS']) for (const version of ['0.4.0', '1.0.0']) refuse(command, version)
})

hostTest('a failure on the way takes everything back', (host) => {
  const netns = host.container('c1')
  standing(host)
  // The container's tables are full of somebody else's route, so that the default route is refused late.
  const conf = { ...DUAL_STACK, ipam: { ...DUAL_STACK.ipam, routes: [{ dst: '10.123.0.0/16', gw: '10.200.0.1' }] } }
  const before = netns.exec(['ip', '-j', 'link'])
  assertRefused(host, 'ADD', { netns, conf, runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80 }] } }, 999)
  assert.deepEqual(
    netns.json<{ ifname: string }>('ip', '-j', 'link').map(({ ifname }) => ifname),
    (JSON.parse(before) as { ifname: string }[]).map(({ ifname }) => ifname),
  )
})

hostTest('a failure of the first ADD leaves no network behind', (host) => {
  const netns = host.container('c1')
  const conf = { ...DUAL_STACK, ipam: { ...DUAL_STACK.ipam, routes: [{ dst: '10.123.0.0/16', gw: '10.200.0.1' }] } }
  assertRefused(host, 'ADD', { netns, conf }, 999)
  assertNothingLeft(host)
  host.mustCni('ADD', { netns })
})

function standing(host: Host): void {
  host.mustCni('ADD', { id: 'standing', netns: host.container('standing') })
}
