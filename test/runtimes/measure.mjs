/**
 * How long whole commands of real runtimes take with tsnet and its agent, with the reference plugins, with a plugin that does nothing, and without
 * a network. The benchmark runs it by run.sh, which says where; the last line of standard output has the milliseconds as JSON.
 */
import { spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BIN, eventually, run, TSNET, tryRun } from './check.mjs'
import { startContainerd } from './containerd.mjs'
import { IMAGE, makeImage } from './image.mjs'

const NOTHING = join(dirname(fileURLToPath(import.meta.url)), '../../bench/nothing.c')
const REFERENCE = '/usr/lib/cni'
const PLUGINS = '/opt/cni/bin'
const CONF = '/etc/cni/net.d'
const SETTLE_MS = 100
/** containerd has read a changed configuration by then. */
const RELOAD_MS = 2000
const rounds = Number(process.env.ROUNDS)

const mappings = { runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] } }
const capabilities = { portMappings: true }
const bridge = {
  type: 'bridge',
  bridge: 'cni0',
  isGateway: true,
  isDefaultGateway: true,
  ipMasq: true,
  hairpinMode: true,
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.88.0.0/16' }]] },
}
/** @param more For `ctr`, which has no option for ports */
const NETWORKS = {
  tsnet: (more) => [{ type: 'tsnet', backend: 'nftables', capabilities, ...more }],
  reference: (more) => [bridge, { type: 'portmap', capabilities, ...more }],
  nothing: (more) => [{ type: 'nothing', capabilities, ...more }],
}
/** The only network that there is: podman executes every plugin of every network in every command. */
const NETWORK = 'bench'
const write = (kind, more) =>
  writeFileSync(`${CONF}/10-${NETWORK}.conflist`, JSON.stringify({ cniVersion: '1.0.0', name: NETWORK, plugins: NETWORKS[kind](more) }))
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

const forEach = (names, act) => Object.fromEntries(names.map((name) => [name, act(name)]))

async function timed(act) {
  await sleep(SETTLE_MS)
  const before = process.hrtime.bigint()
  const value = await act()
  return { value, wall: Number(process.hrtime.bigint() - before) / 1e6 }
}

/** The variants by turns; the first round is not counted. @returns Milliseconds of each variant */
async function series(variants) {
  const walls = Object.fromEntries(Object.keys(variants).map((name) => [name, []]))
  for (let i = 0; i <= rounds; i++) {
    for (const [name, act] of Object.entries(variants)) {
      const { wall } = await timed(() => act(i))
      if (i > 0) walls[name].push(wall)
    }
  }
  return walls
}

function podman() {
  const settings = `[containers]\npids_limit = 0\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"
[network]\nnetwork_backend = "cni"\ncni_plugin_dirs = ["${PLUGINS}"]\ndefault_network = "${NETWORK}"\n`
  mkdirSync('/etc/containers', { recursive: true })
  writeFileSync('/etc/containers/policy.json', JSON.stringify({ default: [{ type: 'insecureAcceptAnything' }] }))
  writeFileSync('/run/podman.conf', settings)
  const pod = (...argv) => run(['podman', ...argv], { env: { CONTAINERS_CONF: '/run/podman.conf' } })
  pod('load', '-i', image)
  const once = (...argv) => pod('run', '--rm', ...argv, '--entrypoint', '/bin/busybox', IMAGE, 'true')
  const withNetwork = (kind) => () => {
    write(kind)
    once('--network', NETWORK, '-p', '8080:80')
  }
  return series({ ...forEach(kinds, withNetwork), none: () => once('--network', 'none') })
}

function ctr() {
  const once = (...argv) => run(['ctr', '-a', '/run/containerd/own.sock', 'run', '--rm', ...argv, '/bin/busybox', 'true'])
  const withNetwork = (kind) => (i) => {
    write(kind, mappings)
    once('--cni', IMAGE, `${kind}-${i}`)
  }
  return series({ ...forEach(kinds, withNetwork), none: (i) => once(IMAGE, `none-${i}`) })
}

/** @see runtime.v1 of the Container Runtime Interface, by its field numbers; 2 is the network of the node */
async function cri(containerd) {
  const call = (method, fields) => containerd.client.call(`/runtime.v1.RuntimeService/${method}`, fields)
  const metadata = (name) => [
    [1, name],
    [2, `uid-${name}`],
    [3, 'bench'],
  ]
  const port = [
    5,
    [
      [2, 80],
      [3, 8080],
    ],
  ]
  const ofNode = [8, [[2, [[1, [[1, 2]]]]]]]
  const walls = { run: {}, stop: {} }
  const pod = async (kind, name, fields) => {
    const started = await timed(() => call('RunPodSandbox', [[1, [[1, metadata(name)], ...fields]]]))
    const id = started.value[1][0].toString('utf8')
    const stopped = await timed(() => call('StopPodSandbox', [[1, id]]))
    await call('RemovePodSandbox', [[1, id]])
    return { kind, run: started.wall, stop: stopped.wall }
  }
  for (const kind of kinds) {
    write(kind)
    await sleep(RELOAD_MS)
    for (let i = 0; i <= rounds; i++) {
      for (const sample of [
        await pod(kind, `${kind}-${i}`, [[2, `${kind}-${i}`], port, [8, []]]),
        await pod(`none beside ${kind}`, `none-${kind}-${i}`, [ofNode]),
      ]) {
        if (i > 0) for (const verb of ['run', 'stop']) walls[verb][sample.kind] = [...(walls[verb][sample.kind] ?? []), sample[verb]]
      }
    }
  }
  return walls
}

const present = (...programs) =>
  programs.every((program) => ['/usr/sbin', '/usr/bin', '/sbin', '/bin'].some((folder) => existsSync(`${folder}/${program}`)))

mkdirSync(CONF, { recursive: true })
mkdirSync(PLUGINS, { recursive: true })
cpSync(`${BIN}/tsnet`, `${PLUGINS}/tsnet`)
for (const name of ['bridge', 'host-local', 'portmap', 'loopback']) symlinkSync(`${REFERENCE}/${name}`, `${PLUGINS}/${name}`)
const compiled = tryRun(['cc', '-O2', '-Wall', '-Wextra', '-Werror', '-static', '-o', `${PLUGINS}/nothing`, NOTHING]).status === 0
const kinds = Object.keys(NETWORKS).filter((kind) => kind !== 'nothing' || compiled)
const agent = spawn(TSNET, ['agent'], { stdio: 'ignore' })
await eventually(() => run([TSNET, 'agent', 'status']), 'The agent does not start')
const image = makeImage()
const figures = {}
if (present('podman', 'runc')) figures.podman = await podman()
if (present('containerd', 'ctr', 'runc')) {
  run(['mount', '--bind', PLUGINS, BIN])
  const containerd = await startContainerd(image)
  if (containerd !== undefined) {
    figures.ctr = await ctr()
    figures.cri = await cri(containerd)
    await containerd.stop()
  }
}
const { ADD: asked } = JSON.parse(run([TSNET, 'agent', 'status', '--json'])).requests
if (asked < Object.keys(figures).length * (rounds + 1)) throw new Error(`Only ${asked} ADDs went through the agent`)
agent.kill()
console.log(JSON.stringify({ figures }))
process.exit(0)
