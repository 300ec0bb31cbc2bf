import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { agentStatus, answered, SOCKET, startAgent } from './agent-process.ts'
import { addressIn, type CniCall, type CniOutcome, DUAL_STACK, endNamespace, type Host, hostTest, LOOPBACK, TSNET } from './host.ts'
import { eventually } from './machine.ts'
import { Sniffer } from './sniff.ts'
import { assertNothingLeft, assertSame, leasesOf, rulesOf, snapshot, stateFiles } from './state.ts'

const runtimeConfig = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] }
const ONE_SHOT = { TSNET_RUN_DIR: '/none' }
const VALID = (...ids: readonly string[]) => ({ 'cni.dev/valid-attachments': ids.map((containerID) => ({ containerID, ifname: 'eth0' })) })

/** What is random in one run is named by its order of appearance. */
function withoutChance(value: unknown): string {
  const names = new Map<string, string>()
  return JSON.stringify(value, undefined, 1).replace(/([0-9a-f]{2}:){5}[0-9a-f]{2}/g, (mac) => {
    names.set(mac, names.get(mac) ?? `mac ${names.size}`)
    return names.get(mac) as string
  })
}

/** What links have beside names and addresses differs from host to host. */
function kernelOf(host: Host): object {
  const addresses = (place: { json: Host['json'] }) =>
    place
      .json<{ ifname: string; operstate: string; mtu: number; addr_info: { local: string; prefixlen: number; scope: string }[] }>('ip', '-j', 'addr')
      .map(({ ifname, mtu, addr_info }) => ({
        ifname,
        mtu,
        addresses: addr_info.filter(({ scope }) => scope === 'global').map(({ local, prefixlen }) => `${local}/${prefixlen}`),
      }))
  return { host: addresses(host), rules: rulesOf(host), leases: leasesOf(host), files: stateFiles(host).filter((path) => !path.includes('.sock')) }
}

/** All commands, those that fail included. @returns Exit status and every byte of each, and the kernel in between */
function performAll(host: Host): readonly unknown[] {
  const netns = host.container('c1')
  const call = { netns, runtimeConfig }
  const steps: unknown[] = []
  let last: CniOutcome | undefined
  const step = (command: string, more: CniCall = {}) => {
    last = host.cni(command, more)
    steps.push({ command, status: last.status, stdout: last.stdout, stderr: last.stderr })
  }
  step('VERSION', { env: { CNI_CONTAINERID: undefined } })
  step('VERSION', { program: LOOPBACK })
  step('STATUS')
  step('ADD', call)
  const prevResult = last?.json ?? {}
  steps.push(kernelOf(host), JSON.parse(host.run(['ip', '-n', 'c1', '-j', 'route']).stdout))
  step('ADD', call)
  step('CHECK', { ...call, prevResult })
  step('CHECK', call)
  step('CHECK', { ...call, id: 'unknown', prevResult })
  step('ADD', { ...call, id: 'other', netns: host.container('other') })
  step('GC', { conf: { ...DUAL_STACK, ...VALID('c1') } })
  step('ADD', { ...call, ifname: 'lo', program: LOOPBACK, conf: { cniVersion: '0.3.1', name: 'cni-loopback', type: 'loopback' } })
  step('DEL', { ...call, prevResult })
  step('DEL', { ...call, netns: '' })
  steps.push(kernelOf(host))
  for (const netns of ['/run/netns/none', '/run', '/proc/self/ns/mnt', '/proc/self/ns/net']) step('ADD', { netns })
  for (const conf of ['', '{', '[]', 'x'.repeat(2 ** 20 + 1), { ...DUAL_STACK, cniVersion: '9.9.9' }, { ...DUAL_STACK, name: '../x' }])
    step('ADD', { netns, conf })
  for (const [name, value] of Object.entries({
    CNI_CONTAINERID: '../x',
    CNI_IFNAME: 'a/b',
    CNI_COMMAND: 'WHAT',
    CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAME=x',
  })) {
    step('ADD', { netns, env: { [name]: value } })
  }
  step('DEL', { netns })
  steps.push(kernelOf(host))
  return steps
}

hostTest('the launcher is a program, not a script', () => {
  assert.equal(readFileSync(TSNET).subarray(0, 4).toString('latin1'), '\u007fELF', 'install make and gcc, then build again')
})

hostTest('every command answers the same bytes and leaves the same kernel with the agent and without', async (host) => {
  const alone = performAll(host)
  assertNothingLeft(host)
  host.exec(['ip', '-all', 'netns', 'delete'])
  host.sh('rm -rf /run/tsnet')
  const agent = await startAgent(host)
  const served = performAll(host)
  assertNothingLeft(host)
  const { requests, failed } = agentStatus(host)
  // All but those whose namespace the launcher cannot open, and the unknown command.
  assert.equal(requests['ADD'], 15)
  assert.deepEqual([requests['DEL'], requests['CHECK'], requests['GC'], requests['STATUS']], [3, 3, 1, 1])
  assert.ok(failed > 10)
  for (const [i, step] of alone.entries()) assert.equal(withoutChance(served[i]), withoutChance(step))
  assert.equal(await agent.stop(), 0)
})

hostTest('agent and one shot mix: what one adds the other checks and deletes, and the other way round', async (host) => {
  await startAgent(host)
  const call = { netns: host.container('c1'), runtimeConfig }
  host.mustCni('ADD', { ...call, id: 'first', runtimeConfig: {}, netns: host.container('first') })
  const before = snapshot(host)
  for (const [add, del] of [
    [{}, ONE_SHOT],
    [ONE_SHOT, {}],
  ]) {
    const prevResult = host.mustCni('ADD', { ...call, env: add ?? {} })
    host.mustCni('CHECK', { ...call, prevResult, env: del ?? {} })
    assert.equal(host.cni('ADD', { ...call, env: del ?? {} }).json.code, 101)
    host.mustCni('DEL', { ...call, env: del ?? {} })
    assertSame(snapshot(host), before, 'something differs')
  }
  host.exec([TSNET, 'attach', 'c1', '-p', '8080:80', '--id', 'c1'])
  host.mustCni('DEL', { id: 'c1', conf: { ...DUAL_STACK, name: 'tsnet' } })
  host.mustCni('DEL', { id: 'first', env: ONE_SHOT })
  assertNothingLeft(host)
})

hostTest('100 ADDs at once through the agent get addresses and ports of their own, and 100 DELs leave nothing', async (host) => {
  const agent = await startAgent(host)
  const calls = Array.from({ length: 100 }, (_, i) => ({
    id: `c${i}`,
    netns: host.container(`c${i}`),
    runtimeConfig: { portMappings: [{ hostPort: 8000 + i, containerPort: 80, protocol: 'tcp' }] },
  }))
  const results = await Promise.all(calls.map((call) => host.cniAsync('ADD', call)))
  for (const { status, stdout, stderr } of results) assert.equal(status, 0, `${stdout}${stderr}`)
  const addresses = results.flatMap(({ json }) => json.ips?.map(({ address }) => address) ?? [])
  assert.equal(new Set(addresses).size, 200)
  assert.equal(leasesOf(host).length, 200)
  await Promise.all([3, 97].map((i) => calls[i]?.netns.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port: 80 }, `c${i}`)))
  assert.equal((await host.outside.talker.ask({ protocol: 'tcp', address: '10.99.0.1', port: 8097 })).name, 'c97')
  assert.equal(agentStatus(host).requests['ADD'], 100, agent.log())
  const ends = await Promise.all(calls.map((call) => host.cniAsync('DEL', call)))
  for (const { status, stdout, stderr } of ends) assert.equal(status, 0, `${stdout}${stderr}`)
  assert.match(agent.log(), /deleted links together/)
  assertNothingLeft(host)
})

hostTest('an ADD for the port of a dead container makes room, and uses the namespace that came with it again', async (host) => {
  const agent = await startAgent(host)
  const call = (id: string) => ({ id, netns: host.container(id), runtimeConfig })
  host.mustCni('ADD', call('dead'))
  await endNamespace(host, 'dead')
  host.mustCni('ADD', call('next'))
  assert.equal(agentStatus(host).requests['ADD'], 2, agent.log())
  host.mustCni('DEL', { id: 'next' })
  assertNothingLeft(host)
})

hostTest('a container that the agent attaches is announced to its neighbours, and keeps its MAC address', async (host, t) => {
  const agent = await startAgent(host)
  host.mustCni('ADD', { id: 'standing', netns: host.container('standing') })
  const sniffer = await Sniffer.start(host, 'br-net', 'arp')
  t.after(() => sniffer.stop())
  const container = host.container('c1')
  const result = host.mustCni('ADD', { netns: container })
  const own = addressIn(result, 4)
  const mac = result.interfaces?.find(({ name }) => name === 'eth0')?.mac ?? 'none'
  assert.match(await sniffer.line(new RegExp(`(who-has|Request).*${own} .*tell ${own}|Reply ${own}`)), new RegExp(`^${mac} > ff:ff:ff:ff:ff:ff`))
  host.mustCni('CHECK', { netns: container, prevResult: result })
  assert.equal(agentStatus(host).requests['CHECK'], 1, agent.log())
  assert.equal(container.json<{ address?: string }>('ip', '-j', 'link', 'show', 'eth0')[0]?.address, mac)
})

hostTest('DELs that wait together share one wait of the kernel, and only their own links go', async (host) => {
  const agent = await startAgent(host)
  const stays = host.container('stays')
  const prevResult = host.mustCni('ADD', { id: 'stays', netns: stays })
  const calls = Array.from({ length: 8 }, (_, i) => ({ id: `c${i}`, netns: host.container(`c${i}`) }))
  for (const call of calls) host.mustCni('ADD', call)
  // All have asked before the first is served.
  host.exec(['kill', '-STOP', String(agent.pid)])
  const ends = [...calls.map((call) => host.cniAsync('DEL', call)), host.cniAsync('DEL', { id: 'nobody', conf: { ...DUAL_STACK, name: 'nothing' } })]
  await eventually('all have asked', () => Number(host.exec(['grep', '-c', SOCKET, '/proc/net/unix'])) > ends.length)
  host.exec(['kill', '-CONT', String(agent.pid)])
  for (const { status, stdout } of await Promise.all(ends)) assert.equal(status, 0, stdout)
  assert.match(agent.log(), /deleted links together links=8/)
  assert.equal((agentStatus(host).requests['DEL'] ?? 0) >= 9, true)
  host.mustCni('CHECK', { id: 'stays', netns: stays, prevResult })
  host.mustCni('DEL', { id: 'stays', netns: stays })
  assertNothingLeft(host)
})

hostTest('a network whose lock is held does not hold up the others, and its request is answered in one shot', async (host) => {
  const agent = await startAgent(host)
  const other = { ...DUAL_STACK, name: 'other', bridge: 'br-other', ipam: { subnet: '10.51.0.0/24' } }
  host.mustCni('ADD', { id: 'first', netns: host.container('first') })
  const holder = host.start(['flock', '/run/tsnet/networks/net/lock', 'sh', '-c', 'echo held; read line'])
  await new Promise((resolve) => holder.stdout?.once('data', resolve))
  const waiting = host.cniAsync('ADD', { netns: host.container('c1') })
  await eventually('the agent declines', () => agent.log().includes('declined'))
  const before = Date.now()
  host.mustCni('ADD', { id: 'second', netns: host.container('second'), conf: other })
  assert.ok(Date.now() - before < 2_000)
  holder.stdin?.end('\n')
  const { status, stdout } = await waiting
  assert.equal(status, 0, stdout)
  assert.equal(agentStatus(host).declined, 1)
  for (const id of ['first', 'c1']) host.mustCni('DEL', { id })
  host.mustCni('DEL', { id: 'second', conf: other })
  assertNothingLeft(host)
})

hostTest('an agent that is asked to stop finishes what it does, leaves no socket, and later calls go on without it', async (host) => {
  const agent = await startAgent(host)
  const calls = Array.from({ length: 8 }, (_, i) => ({ id: `c${i}`, netns: host.container(`c${i}`) }))
  const running = calls.map((call) => host.cniAsync('ADD', call))
  await eventually('the first is served', () => agent.log().includes('done'))
  assert.equal(await agent.stop(), 0)
  for (const { status, stdout, stderr } of await Promise.all(running)) assert.equal(status, 0, `${stdout}${stderr}`)
  assert.equal(host.run(['test', '-e', SOCKET]).status, 1)
  assert.match(agent.log(), /ended reason=stopped/)
  for (const call of calls) host.mustCni('DEL', call)
  assertNothingLeft(host)
})

hostTest('a second agent is refused, and one that comes after a killed one takes its place', async (host) => {
  const first = await startAgent(host)
  const { status, stderr } = host.run([TSNET, 'agent'])
  assert.equal(status, 1)
  assert.match(stderr, /an agent runs already/)
  first.process.kill('SIGKILL')
  await first.ended
  await startAgent(host)
  host.mustCni('STATUS')
  assert.equal(answered(host), 1)
})

hostTest('an agent ends by itself when nobody has asked for as long as --idle-exit says', async (host) => {
  const agent = await startAgent(host, { argv: [TSNET, 'agent', '--idle-exit', '1', '--json'] })
  host.mustCni('STATUS')
  assert.equal(await agent.ended, 0)
  const events = agent
    .log()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { event: string; reason?: string })
  assert.deepEqual(
    events.map(({ event }) => event),
    ['serving', 'ended'],
  )
  assert.equal(events[1]?.reason, 'idle')
})

/** As systemd does it: a socket as descriptor 3, and the process id in the environment; what is reported goes to a socket too. */
const ACTIVATE = `
import os, socket, sys
folder = '/run/tsnet'
os.makedirs(folder, 0o700, exist_ok=True)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind('/run/notify')
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
os.umask(0o177)
listener.bind(folder + '/tsnet.sock')
listener.listen(64)
sys.stderr.write('listening\\n'); sys.stderr.flush()
for turn in range(2):
    listener.setblocking(True)
    import select
    select.select([listener], [], [])
    child = os.fork()
    if child == 0:
        os.dup2(listener.fileno(), 3)
        os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), NOTIFY_SOCKET='/run/notify')
        os.execv(sys.argv[1], sys.argv[1:])
    sys.stderr.write('child %d\\n' % child); sys.stderr.flush()
    print(notify.recv(100).decode(), flush=True)
    os.waitpid(child, 0)
    sys.stderr.write('gone %d\\n' % turn); sys.stderr.flush()
`

hostTest('a socket that a service manager holds starts the agent at the first call, and again after it has ended', async (host) => {
  const manager = host.start(['python3', '-c', ACTIVATE, TSNET, 'agent', '--idle-exit', '1'])
  let [log, told] = ['', '']
  manager.stderr?.on('data', (data) => {
    log += data
  })
  manager.stdout?.on('data', (data) => {
    told += data
  })
  await eventually('it listens', () => log.includes('listening'))
  for (const turn of [0, 1]) {
    // The first call waits no longer than one shot would take to be worth it: then the agent is there.
    host.mustCni('ADD', { netns: host.container(`c${turn}`), id: `c${turn}` })
    await eventually('it is ready', () => told.split('READY=1').length === turn + 2)
    host.mustCni('DEL', { id: `c${turn}` })
    assert.ok(answered(host) >= 1)
    await eventually('it has ended', () => log.includes(`gone ${turn}`))
    assert.equal(host.run(['test', '-S', SOCKET]).status, 0)
  }
  assertNothingLeft(host)
})
