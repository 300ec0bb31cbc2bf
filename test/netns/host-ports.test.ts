/** Host ports that tsnet chooses, and those that processes of the host have. */
import assert from 'node:assert/strict'
import { ADDRESSES, type Container, DUAL_STACK, type Host, hostTest, TSNET } from './host.ts'
import { eventually } from './machine.ts'
import { assertNothingLeft, assertRefused, readState } from './state.ts'

interface RecordedPort {
  readonly protocol: string
  readonly hostPort: number
  readonly count: number
  readonly address: string
}

const mapping = (hostPort: number, more: object = {}) => ({ portMappings: [{ hostPort, containerPort: 80, protocol: 'tcp', ...more }] })
const setRange = (host: Host, first: number, last: number) => host.sh(`echo ${first} ${last} > /proc/sys/net/ipv4/ip_local_port_range`)

function portsOf(host: Host, id = 'c1'): readonly RecordedPort[] {
  return JSON.parse(readState(host, `attachments/net/${id}:eth0.json`)).ports
}

/** Adds, and says on which host port. */
function chosen(host: Host, container: Container, more: object = {}): number {
  host.mustCni('ADD', { id: container.name, netns: container, runtimeConfig: mapping(0, more) })
  const ports = portsOf(host, container.name)
  assert.equal(new Set(ports.map(({ hostPort }) => hostPort)).size, 1)
  return ports[0]?.hostPort ?? 0
}

/** Asserts that the port is refused because of a process, and by which name it is called. */
function refusedFor(host: Host, name: RegExp, runtimeConfig: object): void {
  const { msg, details } = assertRefused(host, 'ADD', { netns: '/run/netns/c1', runtimeConfig }, 103)
  assert.match(msg ?? '', /^Cannot publish \S+8080\/\w+: a process on the host has it$|8000-8300\/\w+: a process on the host has port 8080$/)
  assert.match(details ?? '', name)
}

hostTest('host port 0 takes one free port for both families, reached from outside, and reports it', async (host) => {
  const container = host.container('c1')
  const port = chosen(host, container)
  assert.ok(port >= 32768 && port <= 60999, String(port))
  assert.deepEqual(
    portsOf(host).map(({ address, hostPort }) => [address.includes(':'), hostPort]),
    [
      [false, port],
      [true, port],
    ],
  )
  for (const family of [4, 6] as const) {
    await container.talker.serve({ protocol: 'tcp', address: family === 4 ? '0.0.0.0' : '::', port: 80 }, 'c1')
    assert.equal((await host.outside.talker.ask({ protocol: 'tcp', address: ADDRESSES[family].host, port })).name, 'c1')
  }
  assert.match(host.exec([TSNET, 'ls']), new RegExp(`\\t${port}->80/tcp\\t`))
  assert.match(host.exec([TSNET, 'inspect', 'c1']), new RegExp(`tcp://0\\.0\\.0\\.0:${port} -> `))
  host.mustCni('DEL', { netns: container })
  assertNothingLeft(host)
})

hostTest('tsnet attach -p 80 says which port was chosen, with --json beside the CNI result', (host) => {
  host.container('c1')
  const printed = host.exec([TSNET, 'attach', 'c1', '-p', '80', '-p', '127.0.0.1::53/udp', '-p', '9000-9010'])
  assert.match(printed, /^tcp:\/\/0\.0\.0\.0:\d+ -> 10\.210\.0\.2:80\nudp:\/\/127\.0\.0\.1:\d+ -> 10\.210\.0\.2:53\ntcp:\/\/0\.0\.0\.0:\d+-\d+ -> /m)
  host.exec([TSNET, 'detach', 'c1'])
  const result = JSON.parse(host.exec([TSNET, 'attach', 'c1', '-p', ':80', '--json']))
  assert.ok(result.cniVersion !== undefined && result.ips.length === 1)
  assert.ok(result.ports.length === 1 && result.ports[0].hostPort >= 32768, JSON.stringify(result.ports))
  host.exec([TSNET, 'detach', 'c1'])
  assertNothingLeft(host)
})

hostTest('a range with host port 0 gets ports in a row, past those that are reserved, claimed or taken', async (host) => {
  setRange(host, 40000, 40029)
  host.sh('echo 40012,40028-40029 > /proc/sys/net/ipv4/ip_local_reserved_ports')
  await host.talker.serve({ protocol: 'tcp', address: '127.0.0.1', port: 40005 }, 'host')
  host.mustCni('ADD', { id: 'other', netns: host.container('other'), runtimeConfig: mapping(40025) })
  // 40000-4, 40006-11, 40013-24 and 40026-27 are left.
  assert.equal(chosen(host, host.container('c1'), { range: 12 }), 40013)
  assert.equal(chosen(host, host.container('c2'), { range: 6 }), 40006)
  const { msg } = assertRefused(host, 'ADD', { netns: host.container('c3'), id: 'c3', runtimeConfig: mapping(0, { range: 6 }) }, 11)
  assert.match(msg ?? '', /^Cannot choose a host port for container port 80-85\/tcp: no 6 in a row from 40000 to 40029 is free$/)
})

hostTest('when every port of a tiny ip_local_port_range is in use, ADD is refused with code 11, and works when one came free', async (host) => {
  setRange(host, 40000, 40003)
  host.sh('echo 40001 > /proc/sys/net/ipv4/ip_local_reserved_ports')
  await host.talker.serve({ protocol: 'tcp', address: '::1', port: 40002 }, 'host')
  const [a, b, c] = ['a', 'b', 'c'].map((name) => host.container(name)) as [Container, Container, Container]
  assert.deepEqual([chosen(host, a), chosen(host, b)].sort(), [40000, 40003])
  const call = { id: 'c', netns: c, runtimeConfig: mapping(0) }
  assert.match(assertRefused(host, 'ADD', call, 11).msg ?? '', /container port 80\/tcp: none from 40000 to 40003 is free$/)
  // Another protocol has ports of its own.
  assert.ok(chosen(host, c, { protocol: 'udp' }) >= 40000)
  host.mustCni('DEL', { id: 'c', netns: c })
  await host.talker.close({ protocol: 'tcp', address: '::1', port: 40002 })
  assert.equal(chosen(host, c), 40002)
})

hostTest('parallel ADDs with host port 0 get ports of their own', async (host) => {
  const numbers = [0, 1, 2, 3, 4, 5]
  setRange(host, 40000, 40007)
  const containers = numbers.map((i) => host.container(`c${i}`))
  const results = await Promise.all(containers.map((netns) => host.cniAsync('ADD', { id: netns.name, netns, runtimeConfig: mapping(0) })))
  for (const { status, stdout } of results) assert.equal(status, 0, stdout)
  assert.equal(new Set(numbers.map((i) => portsOf(host, `c${i}`)[0]?.hostPort)).size, numbers.length)
  await Promise.all(containers.map((netns) => host.cniAsync('DEL', { id: netns.name, netns })))
  assertNothingLeft(host)
})

hostTest('a port that a process on the host has is refused with its name, on the addresses that it listens on', async (host) => {
  const netns = host.container('c1')
  const { host: uplink4, second: second4 } = ADDRESSES[4]
  const rows: readonly (readonly [address: string, refused: readonly string[], accepted: readonly string[]])[] = [
    ['0.0.0.0', ['', '0.0.0.0', uplink4, '127.0.0.1'], ['::', ADDRESSES[6].host]],
    ['127.0.0.1', ['', '0.0.0.0', '127.0.0.1'], [uplink4, '::']],
    [second4, ['', '0.0.0.0', second4], [uplink4, '127.0.0.1']],
    ['::', ['', '::', ADDRESSES[6].host], ['0.0.0.0', uplink4]],
  ]
  for (const protocol of ['tcp', 'udp'] as const) {
    for (const [address, refused, accepted] of rows) {
      await host.talker.serve({ protocol, address, port: 8080 }, 'host')
      for (const hostIP of refused) refusedFor(host, /^It is "[^"]+", process \d+/, mapping(8080, { protocol, hostIP }))
      // A long range is looked up in the socket tables.
      refusedFor(host, /process \d+/, mapping(8000, { protocol, hostIP: refused[0], containerPort: 8000, range: 301 }))
      for (const hostIP of accepted) {
        host.mustCni('ADD', { netns, runtimeConfig: mapping(8080, { protocol, hostIP }) })
        host.mustCni('DEL', { netns })
        host.mustCni('ADD', { netns, runtimeConfig: mapping(8000, { protocol, hostIP, containerPort: 8000, range: 301 }) })
        host.mustCni('DEL', { netns })
      }
      await host.talker.close({ protocol, address, port: 8080 })
    }
  }
  assertNothingLeft(host)
})

hostTest('a process that listens on :: for both families has the port in both', async (host, t) => {
  host.container('c1')
  const server = host.start(['socat', 'TCP6-LISTEN:8080,ipv6only=0,reuseaddr,fork', 'SYSTEM:echo host'])
  t.after(() => server.kill('SIGKILL'))
  await eventually('socat listens', () => host.exec(['ss', '-Hltn', 'sport = 8080']) !== '')
  for (const hostIP of ['', '0.0.0.0', ADDRESSES[4].host, '::']) refusedFor(host, /^It is "socat", process \d+/, mapping(8080, { hostIP }))
  server.kill('SIGKILL')
  await eventually('socat is gone', () => host.exec(['ss', '-Hltn', 'sport = 8080']) === '')
  host.mustCni('ADD', { netns: '/run/netns/c1', runtimeConfig: mapping(8080) })
})

for (const reuseaddr of [1, 0]) {
  hostTest(`connections in TIME_WAIT do not refuse a port (a server with SO_REUSEADDR ${reuseaddr})`, async (host, t) => {
    const netns = host.container('c1')
    const server = host.start(['socat', `TCP4-LISTEN:8080,reuseaddr=${reuseaddr}`, 'SYSTEM:echo host'])
    t.after(() => server.kill('SIGKILL'))
    await eventually('socat listens', () => host.exec(['ss', '-Hltn', 'sport = 8080']) !== '')
    host.exec(['socat', '-u', 'TCP4:127.0.0.1:8080', '-'])
    await eventually('the server has closed', () => host.exec(['ss', '-Htan', 'state', 'time-wait', 'sport = 8080']) !== '')
    assert.equal(host.exec(['ss', '-Hltn', 'sport = 8080']), '')
    host.mustCni('ADD', { netns, runtimeConfig: mapping(8080) })
    host.mustCni('DEL', { netns })
  })
}

hostTest('an address that the host has not is refused with code 7, unless ip_nonlocal_bind allows it or the network brings it', async (host) => {
  const netns = host.container('c1')
  for (const hostIP of ['192.0.2.1', ADDRESSES[4].outside, '2001:db8::1']) {
    for (const hostPort of [8080, 0]) {
      const { msg } = assertRefused(host, 'ADD', { netns, runtimeConfig: mapping(hostPort, { hostIP }) }, 7)
      assert.ok(msg?.endsWith(`: the host has no address ${hostIP}`), msg)
    }
  }
  host.sh('echo 1 > /proc/sys/net/ipv4/ip_nonlocal_bind')
  host.mustCni('ADD', { netns, runtimeConfig: mapping(8080, { hostIP: '192.0.2.1' }) })
  host.mustCni('DEL', { netns })
  host.sh('echo 0 > /proc/sys/net/ipv4/ip_nonlocal_bind')
  // The bridge has its address only when the first container comes.
  for (const hostIP of ['10.50.0.1', 'fd00:50::1']) {
    host.mustCni('ADD', { netns, runtimeConfig: mapping(8080, { hostIP }) })
    host.mustCni('DEL', { netns })
  }
  await host.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port: 8080 }, 'host')
  refusedFor(host, /process \d+/, mapping(8080, { hostIP: '10.50.0.1' }))
  assertNothingLeft(host)
})

hostTest("the sockets by which podman's conmon keeps a container's ports are no obstacle for that container", async (host, t) => {
  const id = 'ab'.repeat(32)
  const netns = host.container('c1')
  host.sh('cp "$(command -v socat)" /run/conmon')
  const conmon = host.start(['/run/conmon', '-lp', id, 'TCP4-LISTEN:8080,reuseaddr', 'SYSTEM:true'])
  t.after(() => conmon.kill('SIGKILL'))
  await eventually('it listens', () => host.exec(['ss', '-Hltn', 'sport = 8080']) !== '')
  refusedFor(host, /^It is "conmon", process \d+/, mapping(8080))
  host.mustCni('ADD', { id, netns, runtimeConfig: mapping(8080) })
  host.mustCni('DEL', { id, netns })
})

hostTest('a port of a process in another namespace is nobody’s here', async (host) => {
  const [first, second] = [host.container('first'), host.container('second')]
  host.mustCni('ADD', { id: 'first', netns: first, conf: DUAL_STACK })
  await first.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port: 8080 }, 'first')
  host.mustCni('ADD', { id: 'second', netns: second, runtimeConfig: mapping(8080) })
})
