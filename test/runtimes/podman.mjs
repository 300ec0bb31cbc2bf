/** podman with its CNI backend. */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
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
  fetchOnce,
  flushRules,
  fromHost,
  fromOutside,
  killHard,
  RECORDER,
  run,
  section,
  skip,
  TSNET,
  takeCalls,
  tryRun,
} from './check.mjs'
import { IMAGE } from './image.mjs'

/** All that podman has to know; the runtime is runc because crun needs more than some machines' root may. */
const settings = (pluginFolder) => `[containers]
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "cni"
cni_plugin_dirs = ["${pluginFolder}"]
default_network = "web"
`
const SETTINGS = '/run/podman.conf'
const RECORDED = { env: { CONTAINERS_CONF: '/run/podman-recorded.conf' } }

const ENV = { env: { CONTAINERS_CONF: SETTINGS } }
const pod = (...argv) => run(['podman', ...argv], ENV)
const start = (name, ...argv) => pod('run', '-d', '--name', name, '--hostname', name, ...argv, IMAGE)
const remove = (...names) => pod('rm', '-f', '-t', '0', ...names)
const inspect = (name, format) => pod('inspect', '--format', format, name)
const linkOf = (name, ifname) => pod('exec', name, 'ip', 'address', 'show', 'dev', ifname)
const addressOf = (name, network = 'web') => inspect(name, `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`)
const attached = () => JSON.stringify(attachments(), undefined, 1)

export async function podman(image) {
  mkdirSync('/etc/containers', { recursive: true })
  writeFileSync('/etc/containers/policy.json', JSON.stringify({ default: [{ type: 'insecureAcceptAnything' }] }))
  writeFileSync(SETTINGS, settings(BIN))
  writeFileSync(RECORDED.env.CONTAINERS_CONF, settings(RECORDER))
  console.log(`  ${pod('--version')}, ${run(['runc', '--version']).split('\n')[0]}`)
  pod('load', '-i', image)
  await networks()
  await firstContainer()
  await addresses()
  await furtherNetwork()
  await flushedRules()
  await ends()
  await sideBySide()
  await otherRuntime()
}

async function networks() {
  await check('network ls lists the network, after asking the plugin for its VERSION', () => {
    assertIncludes(run(['podman', 'network', 'ls'], RECORDED), 'web', 'podman network ls')
    const calls = takeCalls()
    assert(calls.length > 0 && calls.every(({ command }) => command === 'VERSION'), `The calls: ${JSON.stringify(calls)}`)
  })
  await check('run --rm adds and deletes, and nothing is left', () => {
    run(['podman', 'run', '--rm', '--entrypoint', '/bin/busybox', '-p', '8080:80', IMAGE, 'true'], RECORDED)
    const commands = takeCalls().map(({ command }) => command)
    assert(commands.filter((command) => command !== 'VERSION').join() === 'ADD,DEL', `The calls: ${commands}`)
    assertNothingLeft()
  })
  await check('after tsnet install the plugin is found without cni_plugin_dirs, and tsnet uninstall leaves nothing', () => {
    const config = '/run/podman-default.conf'
    writeFileSync(config, settings(BIN).replace(/^cni_plugin_dirs.*\n/m, ''))
    run([TSNET, 'install'])
    run(['podman', 'run', '--rm', '--entrypoint', '/bin/busybox', IMAGE, 'ip', 'link', 'show', 'eth0'], { env: { CONTAINERS_CONF: config } })
    run([TSNET, 'uninstall'])
    assert(readdirSync('/opt/cni/bin').length === 0, 'something is left in /opt/cni/bin')
    assertNothingLeft()
  })
}

async function firstContainer() {
  await check('run -p: the port answers from outside with the client’s address, and from the host', async () => {
    start('a', '-p', '8080:80')
    await assertPublished(8080, 'a')
  })
  await check('run -p 127.0.0.1:…: the port answers the host alone', async () => {
    start('local', '-p', '127.0.0.1:8081:80')
    assertIncludes(await fromHost('http://127.0.0.1:8081'), 'local', 'The container that answers')
    assertSilent('http://10.99.0.1:8081')
    remove('local')
  })
  await check('run -p on a dual-stack network: both families answer from outside', async () => {
    start('both', '--network', 'dual', '-p', '8082:80')
    assertIncludes(await fromOutside('http://10.99.0.1:8082'), 'both', 'The container that answers by IPv4')
    assertIncludes(await fromOutside('http://[fd00:99::1]:8082'), 'both', 'The container that answers by IPv6')
    remove('both')
  })
  await check('a container reaches the outside, its neighbour, and its own published port', () => {
    const asks = (name, url) => tryRun(['podman', 'exec', name, 'wget', '-q', '-O', '-', url], ENV).stdout
    start('neighbour')
    assertIncludes(asks('neighbour', `http://${addressOf('a')}/cgi-bin/who`), 'a ', 'The neighbour')
    assertIncludes(asks('a', 'http://10.99.0.1:8080/cgi-bin/who'), 'a ', 'By the published port')
    pod('exec', 'a', 'ping', '-c', '1', '-W', '2', '10.99.0.2')
    remove('neighbour')
  })
}

async function addresses() {
  await check('run --ip --mac-address: the container has both', () => {
    start('fixed', '--ip', '10.210.0.77', '--mac-address', '02:00:00:00:00:77')
    const link = linkOf('fixed', 'eth0')
    assertIncludes(link, '10.210.0.77/', 'eth0')
    assertIncludes(link, '02:00:00:00:00:77', 'eth0')
    assert(addressOf('fixed') === '10.210.0.77', `podman inspect says ${addressOf('fixed')}`)
  })
  await check('run --ip of an address that is taken: refused, and the one that has it keeps it', () => {
    const { status, stderr } = tryRun(['podman', 'run', '-d', '--name', 'thief', '--ip', '10.210.0.77', IMAGE], ENV)
    assert(status !== 0, 'podman run succeeded')
    assertIncludes(stderr, '10.210.0.77', 'The message')
    remove('thief')
    assertIncludes(linkOf('fixed', 'eth0'), '10.210.0.77/', 'eth0')
    remove('fixed')
  })
}

async function furtherNetwork() {
  await check('network connect: a second interface in the second network, and the port still answers', async () => {
    pod('network', 'connect', 'back', 'a')
    assertIncludes(linkOf('a', 'eth1'), `${addressOf('a', 'back')}/`, 'eth1')
    await assertPublished(8080, 'a')
  })
  await check('network disconnect: the interface goes, and the port still answers', async () => {
    pod('network', 'disconnect', 'back', 'a')
    const links = pod('exec', 'a', 'ip', 'link')
    assert(!links.includes('eth1'), links)
    await assertPublished(8080, 'a')
  })
  await check('run in two networks', async () => {
    start('two', '--network', 'web,back', '-p', '8083:80')
    await assertPublished(8083, 'two')
    remove('two')
    assert(!attached().includes('back'), `Still attached:\n${attached()}`)
  })
}

async function flushedRules() {
  await check('network reload after all rules were flushed: the port answers again, at the same address', async () => {
    const address = addressOf('a')
    flushRules()
    assertSilent('http://10.99.0.1:8080')
    pod('network', 'reload', 'a')
    await assertPublished(8080, 'a')
    assert(addressOf('a') === address, `It was ${address} and is ${addressOf('a')}`)
  })
}

async function ends() {
  await check('restart: the port answers again', async () => {
    pod('restart', '-t', '0', 'a')
    await assertPublished(8080, 'a')
  })
  await check('kill -9 of the container: nothing is left, and start brings it back', async () => {
    killHard(Number(inspect('a', '{{.State.Pid}}')))
    await eventually(() => attachments().length === 0, `Still attached:\n${attached()}`)
    assertNothingLeft()
    pod('start', 'a')
    await assertPublished(8080, 'a')
  })
  await check('kill -9 of the container and of its monitor: rm -f leaves nothing', async () => {
    killHard(Number(inspect('a', '{{.State.ConmonPid}}')))
    killHard(Number(inspect('a', '{{.State.Pid}}')))
    remove('a')
    assertNothingLeft()
    assert(fetchOnce('http://127.0.0.1:8080') === '', 'the port still answers')
  })
  await check('stop: nothing is left, and rm has nothing to do', async () => {
    start('b', '-p', '8080:80')
    await assertPublished(8080, 'b')
    pod('stop', '-t', '0', 'b')
    assertNothingLeft()
    pod('rm', 'b')
    assertNothingLeft()
  })
}

async function sideBySide() {
  await check('eight containers at once with a port each, removed at once: all answer, nothing is left', async () => {
    const all = [1, 2, 3, 4, 5, 6, 7, 8]
    const atOnce = (command) => {
      const starts = all.map((i) => `${command(i)} >/dev/null & p${i}=$!`)
      const waits = all.map((i) => `wait $p${i}`)
      run(['sh', '-c', `${starts.join('\n')}\n${waits.join(' && ')}`], ENV)
    }
    atOnce((i) => `podman run -d --name many${i} --hostname many${i} -p ${8100 + i}:80 ${IMAGE}`)
    for (const i of all) assertIncludes(await fromOutside(`http://10.99.0.1:${8100 + i}`), `many${i}`, 'The container that answers')
    atOnce((i) => `podman rm -f -t 0 many${i}`)
    assertNothingLeft()
  })
}

async function otherRuntime() {
  const name = 'the same with crun'
  if (tryRun(['sh', '-c', 'command -v crun']).status !== 0) return skip(name, 'not installed: crun')
  section(`podman with ${run(['crun', '--version']).split('\n')[0]}`)
  const { status, stderr } = tryRun(['podman', '--runtime', 'crun', 'run', '-d', '--name', 'c', '--hostname', 'c', '-p', '8080:80', IMAGE], ENV)
  // crun loads a program into the kernel for the device rules of unified cgroups, and raises a limit for it first.
  const refused = status !== 0 && /RLIM_MEMLOCK/.test(stderr)
  if (refused) remove('c')
  await check(`run -p and rm${refused ? ', without a cgroup (this root lacks CAP_SYS_RESOURCE, which crun wants for one)' : ''}`, async () => {
    if (refused) pod('--runtime', 'crun', 'run', '-d', '--cgroups=disabled', '--name', 'c', '--hostname', 'c', '-p', '8080:80', IMAGE)
    else assert(status === 0, stderr)
    await assertPublished(8080, 'c')
    remove('c')
    assertNothingLeft()
  })
}
