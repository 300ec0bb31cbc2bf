/** libcni by itself, built from Debian's source: no runtime calls CHECK. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { assert, assertNothingLeft, assertPublished, BIN, check, flushRules, PLUGIN, run, skip, TSNET, tryRun } from './check.mjs'
import { serve } from './image.mjs'

const LIBRARY = '/usr/share/gocode/src/github.com/containernetworking/cni/libcni'
const SOURCE = join(dirname(fileURLToPath(import.meta.url)), 'libcni.go')
const PROGRAM = '/run/libcni'

export async function libcni() {
  if (!existsSync(LIBRARY)) return skip('libcni', 'not installed: golang-github-appc-cni-dev')
  const built = tryRun(['go', 'build', '-o', PROGRAM, SOURCE], {
    env: { GO111MODULE: 'off', GOPATH: '/usr/share/gocode', GOCACHE: '/run/go', GOFLAGS: '', CGO_ENABLED: '0' },
    seconds: 60,
  })
  if (built.status !== 0) return skip('libcni', `it cannot be built: ${built.stderr.trim()}`)
  console.log(`  libcni ${run(['dpkg-query', '-W', '-f', '$' + '{Version}', 'golang-github-appc-cni-dev'])}`)
  const env = {
    CNI_PATH: BIN,
    NETCONFPATH: '/etc/cni/net.d',
    CAP_ARGS: JSON.stringify({ portMappings: [{ containerPort: 80, hostPort: 8080, protocol: 'tcp' }] }),
  }
  const tool = (command, network = 'web') => tryRun([PROGRAM, command, network, '/run/netns/tool'], { env })
  const mustTool = (command) => {
    const { status, stdout, stderr } = tool(command)
    assert(status === 0, `libcni ${command}: status ${status}\n${stdout}${stderr}`)
  }

  run(['ip', 'netns', 'add', 'tool'])
  await check('add: the port answers', async () => {
    mustTool('add')
    const server = serve('tool')
    await assertPublished(8080, 'tool').finally(() => server.kill('SIGKILL'))
  })
  await check('check: succeeds, and fails as soon as the rules are missing', () => {
    mustTool('check')
    flushRules()
    assert(tool('check').status !== 0, 'CHECK did not see that the rules are gone')
  })
  await check('del, twice: nothing is left', () => {
    mustTool('del')
    mustTool('del')
    assertNothingLeft()
  })
  await withOurs(mustTool, env)
  await check('del after the namespace is gone: nothing is left', () => {
    mustTool('add')
    run(['ip', 'netns', 'delete', 'tool'])
    mustTool('del')
    assertNothingLeft()
  })
}

const RESULTS = '/var/lib/cni/results'
const REFERENCE = '/usr/lib/cni'

/** What one of the two has added, the other checks and deletes: both remember it in the same words. */
async function withOurs(mustTool, env) {
  const ours = (command, ...more) => {
    const { CAP_ARGS, ...rest } = env
    const given = command === 'add' ? { ...rest, CAP_ARGS } : rest
    return run([TSNET, 'cni', command, 'web', '/run/netns/tool', '--id', 'libcni-1', ...more], { env: given })
  }
  // Runtimes that were killed have left others.
  const cached = () => readdirSync(RESULTS).filter((name) => name.includes('libcni-1'))
  const remembered = () => {
    const names = cached()
    assert(names.join() === 'web-libcni-1-eth0', `Remembered: ${names}`)
    const { netns: _, config, result, ...rest } = JSON.parse(readFileSync(`${RESULTS}/${names[0]}`, 'utf8'))
    const addresses = result.ips.map(({ interface: index }) => index)
    return JSON.stringify({ ...rest, list: JSON.parse(Buffer.from(config, 'base64').toString()), version: result.cniVersion, addresses })
  }
  let theirs = ''
  await check('add by libcni, check and del by tsnet cni, which need not be told of the ports', () => {
    mustTool('add')
    theirs = remembered()
    ours('check')
    ours('del')
    assertNothingLeft()
    assert(cached().length === 0, 'the cache is not empty')
  })
  await check('add by tsnet cni: the same is remembered; check and del by libcni', () => {
    ours('add')
    assert(remembered() === theirs, `${remembered()}\nand by libcni\n${theirs}`)
    mustTool('check')
    mustTool('del')
    assertNothingLeft()
    assert(cached().length === 0, 'the cache is not empty')
  })
  await check('add by libcni: tsnet cni gc keeps it, and with --all deletes it', () => {
    mustTool('add')
    run([TSNET, 'cni', 'gc', 'web'], { env })
    assert(cached().length === 1, 'gc deleted what this version of libcni does not say the namespace of')
    run([TSNET, 'cni', 'gc', 'web', '--all'], { env })
    assertNothingLeft()
  })
  if (!existsSync(`${REFERENCE}/bridge`)) return skip('a chain of the reference plugins with tsnet’s', 'not installed: containernetworking-plugins')
  await check('the reference’s tuning behind tsnet: add by one, del by the other', () => {
    const plugins = [PLUGIN, { type: 'tuning', sysctl: { 'net.core.somaxconn': '512' } }]
    writeFileSync('/etc/cni/net.d/90-tuned.conflist', JSON.stringify({ cniVersion: '1.0.0', name: 'tuned', plugins }))
    const both = { ...env, CNI_PATH: `${BIN}:${REFERENCE}` }
    run([TSNET, 'cni', 'add', 'tuned', '/run/netns/tool', '--id', 'libcni-1'], { env: both })
    const value = run(['ip', 'netns', 'exec', 'tool', 'cat', '/proc/sys/net/core/somaxconn'])
    assert(value === '512', `somaxconn is ${value}`)
    run([PROGRAM, 'check', 'tuned', '/run/netns/tool'], { env: both })
    run([PROGRAM, 'del', 'tuned', '/run/netns/tool'], { env: both })
    assertNothingLeft()
  })
}
