/** The examples of docs/library.md, compiled against the types as they are shipped, on the real kernel. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { before } from 'node:test'
import { type CniCall, type Host, hostTest, LOOPBACK, TSNET } from './host.ts'
import { eventually, type Outcome } from './machine.ts'
import { assertNothingLeft } from './state.ts'

const ROOT = process.cwd()
const EXAMPLES = join(ROOT, 'build/examples')
const ENV = { NETCONFPATH: '/run/net.d', CNI_PATH: `${dirname(TSNET)}:/run/plugins`, CNI_CACHE_DIR: '/run/cache' }
const SYSCTL = '/run/plugins/sysctl'

before(() => {
  const { status, stdout } = spawnSync(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', 'examples'], { encoding: 'utf8' })
  assert.equal(status, 0, stdout)
})

/** The example needs the package beside it, so its name in the folder of plugins is a script. */
function installExample(host: Host): void {
  host.sh(`mkdir -p /run/plugins; printf '#!/bin/sh\\nexec ${process.execPath} ${EXAMPLES}/sysctl-plugin.js\\n' >${SYSCTL}; chmod 755 ${SYSCTL}`)
}

function tsnet(host: Host, args: string): Outcome {
  return host.run([TSNET, ...args.split(' ')], { env: ENV })
}

function define(host: Host, sysctl: object): void {
  const list = { cniVersion: '1.1.0', name: 'web', plugins: [{ type: 'tsnet' }, { type: 'sysctl', sysctl }] }
  host.exec(['sh', '-c', 'mkdir -p /run/net.d; cat >/run/net.d/web.conflist'], { input: JSON.stringify(list) })
}

hostTest('a plugin made with pluginMain() works in a chain behind our own', (host) => {
  const web = host.container('web')
  installExample(host)
  define(host, { 'net/core/somaxconn': 512 })
  const value = () => web.exec(['cat', '/proc/sys/net/core/somaxconn']).trim()
  const outside = host.exec(['cat', '/proc/sys/net/core/somaxconn'])
  const added = tsnet(host, 'cni add web web')
  assert.equal(added.status, 0, added.stderr)
  assert.equal(JSON.parse(added.stdout).interfaces.length, 3)
  assert.deepEqual([value(), host.exec(['cat', '/proc/sys/net/core/somaxconn'])], ['512', outside])
  assert.equal(tsnet(host, 'cni check web web').status, 0)
  web.sh('echo 100 >/proc/sys/net/core/somaxconn')
  assert.match(tsnet(host, 'cni check web web').stderr, /The plugin "sysctl" failed: Kernel parameter "net\/core\/somaxconn" is not 512 any more/)
  assert.equal(tsnet(host, 'cni gc web').status, 0)
  assert.equal(tsnet(host, 'cni status web').status, 0)
  assert.equal(tsnet(host, 'cni del web web').status, 0)
  define(host, { 'net/../kernel/hostname': 'x' })
  assert.match(tsnet(host, 'cni add web web').stderr, /is no parameter of the network/)
  assertNothingLeft(host)
})

hostTest('pluginMain() answers and refuses in the words of our own plugins', (host) => {
  const netns = host.container('c1')
  installExample(host)
  const conf = { cniVersion: '1.0.0', name: 'n', type: 'sysctl' }
  const prevResult = { cniVersion: '1.0.0', ips: [{ address: '10.1.2.3/24' }] }
  const cases: readonly (readonly [command: string, call: CniCall])[] = [
    ['ADD', { netns, conf, prevResult }],
    ['ADD', { netns, conf: { ...conf, cniVersion: '9.0.0' } }],
    ['ADD', { netns, conf: '{' }],
    ['ADD', { netns, conf: '' }],
    ['ADD', { netns, conf: { ...conf, name: '../x' } }],
    ['ADD', { netns: '/run/netns/none', conf, prevResult }],
    ['ADD', { netns, conf, prevResult: { ...prevResult, ips: [{ address: 'here' }] } }],
    ['ADD', { netns, id: '../x', conf }],
    ['ADD', { netns, ifname: '', conf }],
    ['DEL', { netns: '', conf }],
    ['GC', { conf }],
    ['STATUS', { conf: { ...conf, cniVersion: '1.1.0' } }],
    ['WHAT', { conf }],
  ]
  for (const [command, call] of cases) {
    const ours = host.cni(command, { ifname: 'lo', ...call, program: LOOPBACK })
    const theirs = host.cni(command, { ifname: 'lo', ...call, program: SYSCTL })
    // The list of versions is its own.
    const details = ours.json.details?.replace('"0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"', '"0.4.0" "1.0.0" "1.1.0"')
    assert.deepEqual([theirs.status, theirs.json], [ours.status, details === undefined ? ours.json : { ...ours.json, details: details }], command)
  }
  assert.deepEqual(host.mustCni('VERSION', { program: SYSCTL }), { cniVersion: '1.1.0', supportedVersions: ['0.4.0', '1.0.0', '1.1.0'] })
  assert.equal(host.cni('ADD', { netns, conf: { ...conf, cniVersion: '0.3.1' }, program: SYSCTL }).json.code, 1)
  assert.equal(host.cni('ADD', { netns: '/proc/self/ns/net', conf, prevResult, program: SYSCTL }).json.code, 8)
  assert.match(host.run([SYSCTL]).stderr, /^sysctl: kernel parameters for containers\nCNI protocol versions supported: 0\.4\.0, 1\.0\.0, 1\.1\.0\n$/)
})

hostTest('attach() and detach() give a program a network of its own', async (host) => {
  host.sh('mkdir /run/www; echo hello >/run/www/index.html')
  const program = [process.execPath, `${EXAMPLES}/sandbox.js`]
  const child = host.start([...program, '8080:80', 'busybox', 'httpd', '-f', '-p', '80', '-h', '/run/www'])
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (data) => {
      output += String(data)
    })
  const page = () => host.outside.run(['busybox', 'wget', '-q', '-O', '-', 'http://10.99.0.1:8080/index.html']).stdout
  await eventually('the server answers', () => page() === 'hello\n')
  await eventually('it says so', () => /^10\.210\.0\.2\/22 published as 8080\n/.test(output))
  const refused = host.run([...program, '8080:80', 'true'])
  assert.equal(refused.status, 1)
  assert.match(refused.stderr, /^TSNET_PORT_TAKEN: Cannot publish 0\.0\.0\.0:8080\/tcp: attachment "tsnet\/sandbox-\d+:eth0" has it\n$/)
  const ended = new Promise((resolve) => child.once('exit', resolve))
  // Of the process that `start` has wrapped it in, the program has taken the place.
  host.sh(`kill -TERM ${child.pid}`)
  await ended
  assertNothingLeft(host)
})
