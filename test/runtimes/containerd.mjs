/** containerd: by its own command `ctr run --cni`, and by the Container Runtime Interface, as a kubelet calls it. */
import { spawn } from 'node:child_process'
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import {
  assert,
  assertIncludes,
  assertNothingLeft,
  assertPublished,
  assertSilent,
  attachments,
  BIN,
  check,
  eventually,
  flushRules,
  killHard,
  PLUGIN,
  RECORDER,
  run,
  TSNET,
  takeCalls,
  tryRun,
} from './check.mjs'
import { Client, decode } from './grpc.mjs'
import { IMAGE, SERVER } from './image.mjs'

const SOCKET = '/run/containerd/own.sock'
const LOG = '/run/containerd.log'
const CONFIG = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "${SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${IMAGE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${BIN}"
    conf_dir = "/etc/cni/net.d"
`

class Containerd {
  #process

  async start() {
    const log = openSync(LOG, 'a')
    this.#process = spawn('containerd', ['--config', '/run/containerd.toml'], { stdio: ['ignore', log, log] })
    await eventually(() => tryRun(['ctr', '-a', SOCKET, 'version']).status === 0, 'containerd does not answer')
    this.client = new Client(SOCKET)
  }

  /** Ends at once, as a crash would end it; the containers go on. */
  async stop() {
    this.client.close()
    const ended = new Promise((resolve) => this.#process.once('exit', resolve))
    this.#process.kill('SIGKILL')
    await ended
  }
}

/** @returns The running daemon, or nothing when it does not start */
export async function startContainerd(image) {
  mkdirSync('/run/containerd', { recursive: true })
  writeFileSync('/run/containerd.toml', CONFIG)
  const containerd = new Containerd()
  let started
  await check('containerd starts and loads the image', async () => {
    try {
      await containerd.start()
      for (const namespace of ['default', 'k8s.io']) ctl('-n', namespace, 'image', 'import', image)
    } catch (error) {
      throw new Error(`${error.message}\n${readFileSync(LOG, 'utf8').split('\n').slice(-6).join('\n')}`)
    }
    started = containerd
  })
  return started
}

export const CTR = ['ctr', '-a', SOCKET]
const ctl = (...argv) => run([...CTR, ...argv])
const CNI_BIN = '/opt/cni/bin'

/** `ctr` has no option for ports: they stand in the configuration. */
const CTR_NETWORK = {
  cniVersion: '1.0.0',
  name: 'ctr',
  plugins: [{ ...PLUGIN, runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] } }],
}

export async function ctr() {
  console.log(`  ${run(['containerd', '--version'])}`)
  writeFileSync('/etc/cni/net.d/00-ctr.conflist', JSON.stringify(CTR_NETWORK))
  mkdirSync(CNI_BIN, { recursive: true })
  const arguments_ = (name) => ['run', '--cni', '--env', `WHO=${name}`, IMAGE, name, ...SERVER]
  const foreground = (name) => {
    const [command, ...rest] = arguments_(name)
    const child = spawn('ctr', [...CTR.slice(1), command, '--rm', ...rest], { stdio: 'ignore' })
    child.ended = new Promise((resolve) => child.once('exit', resolve))
    return child
  }

  run(['mount', '--bind', BIN, CNI_BIN])
  await check('run --cni: the port answers; the task killed, nothing is left', async () => {
    const child = foreground('c1')
    await assertPublished(8080, 'c1')
    ctl('task', 'kill', '-s', 'KILL', 'c1')
    await child.ended
    assertNothingLeft()
  })
  run(['umount', CNI_BIN])

  run(['mount', '--bind', RECORDER, CNI_BIN])
  takeCalls()
  await check('its DEL comes without CNI_NETNS, and still leaves nothing', async () => {
    const child = foreground('c2')
    await assertPublished(8080, 'c2')
    killHard(pidOf('c2'))
    await child.ended
    const deletes = takeCalls().filter(({ command }) => command === 'DEL')
    assert(deletes.length === 1 && deletes[0].netns === '', `The DEL calls: ${JSON.stringify(deletes)}`)
    assertNothingLeft()
  })
  run(['umount', CNI_BIN])

  run(['mount', '--bind', BIN, CNI_BIN])
  await check('run -d --cni never calls DEL: tsnet gc keeps it while it lives and removes it afterwards', async () => {
    const [command, ...rest] = arguments_('c3')
    ctl(command, '-d', ...rest)
    await assertPublished(8080, 'c3')
    run([TSNET, 'gc'])
    await assertPublished(8080, 'c3')
    ctl('task', 'rm', '-f', 'c3')
    ctl('container', 'rm', 'c3')
    assert(attachments().length === 1, 'the record is gone without DEL')
    run([TSNET, 'gc'])
    assertNothingLeft()
  })
  await check('kill -9 of ctr, then of the task: the next container gets the port after tsnet gc', async () => {
    const child = foreground('c4')
    await assertPublished(8080, 'c4')
    child.kill('SIGKILL')
    await child.ended
    ctl('task', 'rm', '-f', 'c4')
    ctl('container', 'rm', 'c4')
    run([TSNET, 'gc'])
    const next = foreground('c5')
    await assertPublished(8080, 'c5')
    ctl('task', 'kill', '-s', 'KILL', 'c5')
    await next.ended
    assertNothingLeft()
  })
  run(['umount', CNI_BIN])
  run(['rm', '/etc/cni/net.d/00-ctr.conflist'])
}

function pidOf(name, namespace = 'default') {
  const line = ctl('-n', namespace, 'task', 'ls')
    .split('\n')
    .find((text) => text.startsWith(name))
  assert(line !== undefined, `There is no task ${name}`)
  return Number(line.split(/\s+/)[1])
}

// The Container Runtime Interface, by the field numbers of its runtime.v1 messages.
const RUNTIME = '/runtime.v1.RuntimeService'
const metadata = (name) => [
  [1, name],
  [2, `uid-${name}`],
  [3, 'tests'],
]
const portMapping = ({ hostPort, containerPort }) => [
  [2, containerPort],
  [3, hostPort],
]
const text = (value) => value?.toString('utf8') ?? ''

const callOf =
  (containerd) =>
  (method, fields = []) =>
    containerd.client.call(`${RUNTIME}/${method}`, fields)

/** @returns The id of the pod, whose container port 80 is published */
export async function runPodSandbox(containerd, name, hostPort) {
  const ports = hostPort === undefined ? [] : [[5, portMapping({ hostPort, containerPort: 80 })]]
  const answer = await callOf(containerd)('RunPodSandbox', [[1, [[1, metadata(name)], [2, name], ...ports, [8, []]]]])
  return text(answer[1][0])
}

export async function stopPodSandbox(containerd, id) {
  for (const method of ['StopPodSandbox', 'RemovePodSandbox']) await callOf(containerd)(method, [[1, id]])
}

export async function cri(containerd) {
  const call = callOf(containerd)
  const runPod = (name, hostPort) => runPodSandbox(containerd, name, hostPort)
  const stop = (id) => call('StopPodSandbox', [[1, id]])
  const remove = (id) => call('RemovePodSandbox', [[1, id]])
  const status = async (id) => decodeStatus(await call('PodSandboxStatus', [[1, id]]))

  await check('Status: the runtime and its network are ready', async () => {
    const version = await call('Version')
    console.log(`  CRI ${text(version[4][0])} of ${text(version[2][0])} ${text(version[3][0])}`)
    await eventually(async () => {
      const conditions = decode(((await call('Status'))[1] ?? [])[0])[1].map((bytes) => decode(bytes))
      return conditions.length === 2 && conditions.every((condition) => condition[2]?.[0] === 1)
    }, 'The network is not ready')
  })
  let first = ''
  await check('RunPodSandbox with a host port: it answers from outside; the status has the pod’s address', async () => {
    first = await runPod('p1', 8080)
    await assertPublished(8080, 'p1')
    const { ip } = await status(first)
    assertIncludes(JSON.stringify(attachments()[0].addresses), `"${ip}/`, 'tsnet ls')
    const loopback = run(['nsenter', '-t', String(pidOf(first, 'k8s.io')), '-n', 'ip', 'address', 'show', 'dev', 'lo'])
    assertIncludes(loopback, 'LOOPBACK,UP', 'lo, which the plugin loopback brings up')
  })
  await check('a second pod with the same host port: refused with the name of the first, which keeps it', async () => {
    const refusal = await runPod('p2', 8080).then(
      () => '',
      (error) => error.message,
    )
    assertIncludes(refusal, 'Cannot publish', 'The answer of RunPodSandbox')
    assertIncludes(refusal, first, 'The answer of RunPodSandbox')
    await assertPublished(8080, 'p1')
    assert(attachments().length === 1, 'something of the refused pod is left')
  })
  await check('StopPodSandbox twice, RemovePodSandbox: nothing is left', async () => {
    await stop(first)
    assertNothingLeft()
    await stop(first)
    await remove(first)
    assertNothingLeft()
    assertSilent('http://10.99.0.1:8080')
  })
  await check('six pods at once with a port each, removed at once: all answer, nothing is left', async () => {
    const names = [1, 2, 3, 4, 5, 6]
    const ids = await Promise.all(names.map((i) => runPod(`m${i}`, 8100 + i)))
    for (const i of names) await assertPublished(8100 + i, `m${i}`)
    await Promise.all(ids.map((id) => stop(id).then(() => remove(id))))
    assertNothingLeft()
  })
  await check('kill -9 of the pod: StopPodSandbox and RemovePodSandbox leave nothing', async () => {
    const id = await runPod('p3', 8080)
    await assertPublished(8080, 'p3')
    killHard(pidOf(id, 'k8s.io'))
    await stop(id)
    await remove(id)
    assertNothingLeft()
  })
  await check('kill -9 of containerd: the port answers all the while, and the new one stops the pod', async () => {
    const id = await runPod('p4', 8080)
    await assertPublished(8080, 'p4')
    await containerd.stop()
    await assertPublished(8080, 'p4')
    await containerd.start()
    await eventually(() => status(id), 'The pod is not known any more')
    await stop(id)
    await remove(id)
    assertNothingLeft()
  })
  await check('the pod’s namespace taken away: StopPodSandbox and RemovePodSandbox leave nothing', async () => {
    const id = await runPod('p5', 8080)
    await assertPublished(8080, 'p5')
    const netns = attachments()[0].netns.path
    killHard(pidOf(id, 'k8s.io'))
    run(['umount', '-l', netns])
    run(['rm', '-f', netns])
    await stop(id)
    await remove(id)
    assertNothingLeft()
  })
  await check('the host restarted: the pod of before is stopped and removed, and its port is free', async () => {
    const id = await runPod('p6', 8080)
    await assertPublished(8080, 'p6')
    const pid = pidOf(id, 'k8s.io')
    await containerd.stop()
    restartHost(pid)
    await containerd.start()
    await eventually(() => status(id), 'The pod is not known any more')
    await stop(id)
    await remove(id)
    assertNothingLeft()
    const next = await runPod('p7', 8080)
    await assertPublished(8080, 'p7')
    await stop(next)
    await remove(next)
    assertNothingLeft()
  })
}

/** What a restart of the host does to a pod: its processes, links, rules and all of /run are gone; what is in /var stays. */
function restartHost(pid) {
  const [, shim] = /^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  for (const process_ of [Number(shim), pid]) killHard(process_)
  run(['ip', 'link', 'delete', 'tsnet0'])
  flushRules()
  const mounts = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
  for (const path of mounts.filter((path) => /^\/run\/(containerd|netns\/cni-)/.test(path)).reverse()) run(['umount', '-l', path])
  run(['sh', '-c', 'rm -rf /run/tsnet /run/containerd/* /run/netns/cni-*'])
}

function decodeStatus(answer) {
  const status = decode(answer[1][0])
  const network = decode(status[5][0])
  return { ip: text(network[1]?.[0]) }
}
