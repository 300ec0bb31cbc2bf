import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { statSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { encodeFrame, encodeResponse, KIND } from '../../src/agent/frame.ts'
import { afterRequest, agentStatus, answered, SOCKET, startAgent, startFakeAgent } from './agent-process.ts'
import { type CniOutcome, DUAL_STACK, type Host, hostTest } from './host.ts'
import { eventually, SYSCTL_FOLDER } from './machine.ts'
import { assertNothingLeft, leasesOf, readState, rulesOf } from './state.ts'

const KILLS = 20
const AT_ONCE = 4
const port = (hostPort: number) => ({ portMappings: [{ hostPort, containerPort: 80, protocol: 'tcp' }] })

function mustAll(outcomes: readonly CniOutcome[]): void {
  for (const { status, stdout, stderr } of outcomes) assert.equal(status, 0, `${stdout}${stderr}`)
}

hostTest(
  `an agent that is killed in the middle of requests: every call is answered all the same, and nothing is left (${KILLS} times)`,
  async (host, t) => {
    const calls = Array.from({ length: AT_ONCE }, (_, i) => ({ id: `c${i}`, netns: host.container(`c${i}`), runtimeConfig: port(8080 + i) }))
    let hit = 0
    for (let i = 0; i < KILLS; i++) {
      const agent = await startAgent(host)
      const victim = i % 2 === 0 ? 'ADD' : 'DEL'
      if (victim === 'DEL') for (const call of calls) host.mustCni('ADD', call)
      const before = answered(host)
      const running = calls.map((call) => host.cniAsync(victim, call))
      await eventually('the agent works', () => agent.log().split('done').length > before + 1 + (i % AT_ONCE) || agent.process.exitCode !== null)
      await new Promise((resolve) => setTimeout(resolve, i % 3))
      agent.process.kill('SIGKILL')
      await agent.ended
      mustAll(await Promise.all(running))
      if (agent.log().split('done').length - 1 - before < AT_ONCE) hit++
      if (victim === 'ADD') {
        assert.equal(new Set(leasesOf(host).map((lease) => lease.split(' ')[0])).size, 2 * AT_ONCE)
        mustAll(await Promise.all(calls.map((call) => host.cniAsync('DEL', call))))
      }
      assertNothingLeft(host)
    }
    t.diagnostic(`${hit} of ${KILLS} kills came while requests were open`)
    assert.ok(hit >= KILLS / 2)
  },
)

hostTest('a request whose agent dies after it has done all but answer is recognised by its one shot', async (host) => {
  const netns = host.container('c1')
  const fake = afterRequest((socket, request) => {
    socket.write(encodeFrame(KIND.started))
    assert.match(request.token, /^[0-9a-f]{16}$/)
    const { status, stdout } = spawnSync(
      'nsenter',
      ['-t', String(host.machine.pid), '-n', '-m', '--', process.execPath, join(process.cwd(), 'dist/cni.cjs'), request.entry],
      { input: request.input, env: { ...request.env, TSNET_REQUEST: request.token }, encoding: 'utf8' },
    )
    assert.equal(status, 0, stdout)
    first = stdout
    socket.destroy()
  })
  let first = ''
  {
    await using _agent = await startFakeAgent(host, fake)
    const { status, stdout } = await host.cniAsync('ADD', { netns, runtimeConfig: port(8080) })
    assert.equal(status, 0, stdout)
    assert.equal(stdout, first)
  }
  assert.equal(leasesOf(host).length, 2)
  // Another request for the same is refused as ever.
  assert.equal(host.cni('ADD', { netns, runtimeConfig: port(8080) }).json.code, 101)
  host.mustCni('DEL', { netns })
  assertNothingLeft(host)
})

hostTest('an agent that is stopped answers nobody: the call goes on in one shot after two seconds', async (host) => {
  const agent = await startAgent(host)
  agent.process.kill('SIGSTOP')
  const netns = host.container('c1')
  const before = Date.now()
  host.mustCni('ADD', { netns })
  const took = Date.now() - before
  assert.ok(took >= 1_900 && took < 4_000, `${took} ms`)
  host.mustCni('DEL', { netns })
  agent.process.kill('SIGCONT')
  // What was given up while it slept must not be done after all.
  await eventually('it is back', () => answered(host) === 0)
  host.mustCni('ADD', { netns })
  assert.equal(agentStatus(host).requests['ADD'], 1)
  host.mustCni('DEL', { netns })
  assertNothingLeft(host)
})

hostTest('a call waits for its turn as long as the agent says that it is there', async (host) => {
  const netns = host.container('c1')
  const conf = { ...DUAL_STACK, filler: 'x'.repeat(100_000) }
  const hello = encodeFrame(KIND.hello)
  const late = afterRequest((socket) => {
    setTimeout(() => socket.write(hello), 3_000)
    setTimeout(() => socket.end(Buffer.concat([started, encodeResponse({ status: 0, output: '{"late":true}', problems: '' })])), 6_000)
  })
  await using _fake = await startFakeAgent(host, late)
  const { status, stdout } = await host.cniAsync('ADD', { netns, conf })
  assert.deepEqual([status, stdout], [0, '{"late":true}'])
})

hostTest('a caller in another network or mount namespace, or with other folders, is not served', async (host) => {
  await startAgent(host)
  const netns = host.container('c1')
  const run = (entry: readonly string[], command: string, env: Record<string, string> = {}) => {
    const prepared = host.prepare(command, { netns, env })
    return host.run([...entry, ...prepared.argv], { env: prepared.env, input: prepared.input })
  }
  // A container's namespace has to be another than the caller's, and the caller's is gone with it.
  const foreign = run(['unshare', '-n'], 'ADD')
  assert.equal(foreign.status, 0, foreign.stdout)
  host.mustCni('DEL', { netns, env: { TSNET_RUN_DIR: '/none' } })
  assert.equal(host.run(['ip', 'link', 'show', 'br-net']).status, 1)
  await eventually("the kernel has taken the foreign host's link away", () => netns.run(['ip', 'link', 'show', 'eth0']).status === 1)
  for (const [entry, env] of [
    [['unshare', '-m'], {}],
    [[], { TSNET_STATE_DIR: '/run/other' }],
    [[], { TSNET_SYSCTL_DIR: '/run/other' }],
  ] as const) {
    for (const command of ['ADD', 'DEL']) {
      const { status, stdout } = run(entry, command, env)
      assert.equal(status, 0, stdout)
    }
  }
  assert.equal(answered(host), 0)
  assert.equal(agentStatus(host).declined, 7)
  assertNothingLeft(host)
})

hostTest('a socket that others can write to, or that others own, is not trusted', async (host) => {
  await startAgent(host)
  const netns = host.container('c1')
  const folder = '/run/tsnet'
  const tricks = [
    [`chmod 666 ${SOCKET}`, `chmod 600 ${SOCKET}`],
    [`chmod 620 ${SOCKET}`, `chmod 600 ${SOCKET}`],
    [`chown 65534 ${SOCKET}`, `chown 0 ${SOCKET}`],
    [`chmod 777 ${folder}`, `chmod 700 ${folder}`],
    [`chown 65534 ${folder}`, `chown 0 ${folder}`],
    [`mv ${SOCKET} /run/real; ln -s /run/real ${SOCKET}`, `rm ${SOCKET}; mv /run/real ${SOCKET}`],
    [`mv ${SOCKET} /run/real; mkfifo ${SOCKET}`, `rm ${SOCKET}; mv /run/real ${SOCKET}`],
  ] as const
  for (const [act, undo] of tricks) {
    host.sh(act)
    // The folder is that of the state as well, which is not trusted either then.
    const code = act.endsWith(` ${folder}`) ? 5 : undefined
    for (const command of ['ADD', 'DEL']) assert.equal(host.cni(command, { netns }).json.code, code, act)
    host.sh(undo)
    assert.equal(answered(host), 0, act)
  }
  host.mustCni('ADD', { netns })
  assert.equal(answered(host), 1)
  host.mustCni('DEL', { netns })
  assertNothingLeft(host)
})

hostTest('users other than root are not served, and cannot make the agent do anything', async (host) => {
  const agent = await startAgent(host)
  host.sh(`chmod 777 ${SOCKET} /run/tsnet`)
  const script = `import socket; s = socket.socket(socket.AF_UNIX); s.connect('${SOCKET}'); s.settimeout(5); print(len(s.recv(100)))`
  assert.equal(host.exec(['setpriv', '--reuid', '65534', '--clear-groups', 'python3', '-c', script]).trim(), '0')
  await eventually('it says so', () => agent.log().includes('refused a connection reason="user 65534 may not use it"'))
})

function identity(host: Host, name: string): Buffer {
  const { dev, ino } = statSync(`/proc/${host.machine.pid}/ns/${name}`, { bigint: true })
  return Buffer.from(new BigUint64Array([dev, ino]).buffer)
}

hostTest('frames that are garbage, too long, cut off or slow do not hurt the agent', async (host) => {
  const agent = await startAgent(host)
  const path = host.machine.path(SOCKET)
  const header = (kind: number, size: number, magic = 'TSNA', protocol = 1) => {
    const bytes = Buffer.alloc(12)
    bytes.write(magic, 'latin1')
    bytes.writeUInt16LE(protocol, 4)
    bytes.writeUInt16LE(kind, 6)
    bytes.writeUInt32LE(size, 8)
    return bytes
  }
  const random = (length: number, seed: number) => Buffer.from(Array.from({ length }, (_, i) => ((i + seed) * 2654435761) >>> 13))
  const field = (text: string) => Buffer.concat([Buffer.from(new Uint32Array([text.length]).buffer), Buffer.from(text)])
  const { build } = agentStatus(host)
  /** From the right caller, without a descriptor. */
  const request = (env: string, input: string) =>
    encodeFrame(
      KIND.request,
      ...['net', 'mnt'].map((name) => identity(host, name)),
      ...[build, '/run/tsnet', SYSCTL_FOLDER, 't', '../x', env, input].map(field),
    )
  const misdeeds = [
    random(5_000, 1),
    header(2, 0),
    header(2, 0xffffffff),
    header(2, 3 << 20),
    header(2, 100, 'NONE'),
    header(2, 100, 'TSNA', 9),
    header(77, 0),
    Buffer.concat([header(2, 64), random(64, 2)]),
    Buffer.concat([header(2, 20), field('x'), field('y')]),
    request('CNI_COMMAND=ADD\0=\0\0\0CNI_COMMAND=DEL', '{}'),
    request('CNI_COMMAND=ADD\0CNI_CONTAINERID=c\0CNI_IFNAME=e\0CNI_NETNS=/run/netns/c1', '{"cniVersion":"1.0.0","name":"n","type":"tsnet"}'),
    request('CNI_COMMAND=DEL\0CNI_CONTAINERID=../../c\0CNI_IFNAME=e', '{"cniVersion":"1.0.0","name":"n","type":"tsnet"}'),
    request('CNI_COMMAND=STATUS', '['.repeat(1_000_000)),
    ...Array.from({ length: 40 }, (_, i) => Buffer.concat([header(i % 9, 300), random(i * 9, i)])),
  ]
  for (const bytes of misdeeds) {
    await new Promise<void>((resolve) => {
      const socket: Socket = connect(path, () => socket.end(bytes))
      socket.on('error', () => {})
      socket.on('data', () => {})
      socket.on('close', () => resolve())
    })
  }
  // Connections that say nothing: more than may wait. A few at a time, since the kernel refuses those that do not fit the backlog.
  const silent: Socket[] = []
  await eventually('those that are too many are refused', () => {
    for (let i = 0; i < 20; i++) silent.push(connect(path).on('error', () => {}))
    return agent.log().includes('too many wait already')
  })
  for (const socket of silent) socket.destroy()
  const netns = host.container('c1')
  host.mustCni('ADD', { netns })
  host.mustCni('DEL', { netns })
  const { requests, failed } = agentStatus(host)
  assert.deepEqual([requests['ADD'], requests['DEL'], requests['STATUS'], failed], [3, 2, 1, 4])
  assertNothingLeft(host)
  assert.equal(await agent.stop(), 0)
})

const started = encodeFrame(KIND.started)
const response = encodeResponse({ status: 0, output: '{}', problems: '' })
const patched = (value: number, offset: number) => {
  const bytes = Buffer.from(response)
  bytes.writeUInt32LE(value, offset)
  return bytes
}
const answering = (...frames: readonly Buffer[]) => afterRequest((socket) => void socket.end(Buffer.concat(frames)))

/** What a wrong agent may do. */
const MISDEEDS: Readonly<Record<string, (socket: Socket) => void>> = {
  'closes at once': (socket) => void socket.destroy(),
  'says something else': (socket) => void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'),
  'stops in the middle of its hello': (socket) => void socket.end(encodeFrame(KIND.hello).subarray(0, 7)),
  'announces a hello of 4 GiB': (socket) => void socket.write(patched(0xfffffff0, 8)),
  'closes after the request': answering(),
  declines: answering(started, encodeFrame(KIND.declined)),
  'dies after it has begun': answering(started),
  'answers without having begun': answering(response),
  'stops in the middle of its answer': answering(started, response.subarray(0, 15)),
  'announces an answer of 4 GiB': answering(started, patched(0xfffffff0, 8)),
  'answers with a status that is none': answering(started, encodeResponse({ status: 256, output: '{}', problems: '' })),
  'answers with a field that is too long': answering(started, patched(0x7fffffff, 16)),
  'appends to its answer': answering(started, encodeFrame(KIND.response, response.subarray(12), Buffer.from('x'))),
}

hostTest('whatever a wrong agent says, the call is answered in one shot', async (host) => {
  const netns = host.container('c1')
  const conf = { ...DUAL_STACK, filler: 'x'.repeat(300_000) }
  for (const [name, act] of Object.entries(MISDEEDS)) {
    await using fake = await startFakeAgent(host, act)
    const { status, stdout, stderr } = await host.cniAsync('ADD', { netns, conf, runtimeConfig: port(8080) })
    assert.equal(status, 0, `${name}: ${stdout}${stderr}`)
    assert.equal(stderr, '', name)
    assert.equal(fake.connections(), 1, name)
    assert.equal((await host.cniAsync('DEL', { netns })).status, 0)
  }
  assert.doesNotMatch(rulesOf(host), /8080/)
  assertNothingLeft(host)
})

hostTest('a record says which request made it, and only where there is an agent', async (host) => {
  const netns = host.container('c1')
  const requestOf = () => (JSON.parse(readState(host, 'attachments/net/c1:eth0.json')) as { request?: string }).request
  host.mustCni('ADD', { netns, env: { TSNET_REQUEST: 'of the caller' } })
  assert.equal(requestOf(), undefined)
  host.mustCni('DEL', { netns })
  await startAgent(host)
  host.mustCni('ADD', { netns })
  assert.match(requestOf() ?? '', /^[0-9a-f]{16}$/)
  host.mustCni('DEL', { netns })
})
