/** Whole calls with hostile input: names, documents, paths. TSNET_FUZZ_CALLS says how many are drawn; `make fuzz` draws thousands. */
import assert from 'node:assert/strict'
import { readlinkSync, statSync } from 'node:fs'
import { Dice, mutateJson, mutateText } from '../fuzz/mutation.ts'
import { CONFIG, ENVIRONMENT } from '../fuzz/seeds.ts'
import { startAgent } from './agent-process.ts'
import { addressIn, type CniDocument, DUAL_STACK, type Host, hostTest, TSNET } from './host.ts'
import { type Outcome, SYSCTL_FOLDER } from './machine.ts'
import { assertNothingLeft, assertRefused, assertSame, leasesOf, readState, rulesOf, settled, snapshot, stateFiles } from './state.ts'

const CALLS = Number(process.env['TSNET_FUZZ_CALLS'] ?? 150)
const SEED = Number(process.env['TSNET_FUZZ_SEED'] ?? 20261122)
const NATIVE = { ...DUAL_STACK, backend: 'nftables' }
const PORT = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] }

interface HostileCall {
  readonly env: Readonly<Record<string, string>>
  readonly input: string
}

/** @returns A call that is not about what stands: that one it may change. */
function hostileCall(number: number): HostileCall {
  for (let attempt = 0; ; attempt++) {
    const dice = new Dice((SEED * 1_000_003 + number * 101 + attempt) >>> 0)
    const env: Record<string, string> = { ...ENVIRONMENT, CNI_COMMAND: dice.pick(['ADD', 'ADD', 'ADD', 'DEL', 'CHECK', 'GC', 'STATUS']) }
    const key = dice.pick(Object.keys(env))
    // The last thing that a process can be given is a text with a zero byte.
    if (dice.roll(2) === 0) env[key] = mutateText(env[key] ?? '', dice).replaceAll('\0', '')
    const input = mutateJson(dice.roll(4) === 0 ? CONFIG : { ...CONFIG, prevResult: undefined, args: undefined, runtimeConfig: {} }, dice)
    if (!/"net"|br-net/.test(input) && !/^c\d$/.test(env['CNI_CONTAINERID'] ?? '')) return { env, input }
  }
}

function assertDecent({ status, stdout, stderr }: Outcome, which: string): void {
  assert.ok(status === 0 || status === 1, `${which}: status ${status}`)
  assert.doesNotMatch(`${stdout}${stderr}`, /\n\s+at |node:internal|\.cjs:/, which)
  if (stdout.trim() === '') return assert.equal(status, 0, which)
  const { code, msg } = JSON.parse(stdout) as CniDocument
  if (status === 1) assert.ok(typeof code === 'number' && typeof msg === 'string' && msg !== '' && !/\p{Cc}/u.test(msg), `${which}: ${stdout}`)
}

/** What hostile calls must not change: the kernel, and everything about the network that stands. */
function standing(host: Host): object {
  const records = stateFiles(host).filter((path) => path.startsWith('attachments/'))
  const { book: _, ...kernel } = snapshot(host) as { book: object }
  return { ...kernel, leases: leasesOf(host), records: Object.fromEntries(records.map((path) => [path, readState(host, path)])) }
}

hostTest(`${CALLS} hostile calls are answered decently, and what stands goes on to stand`, async (host, t) => {
  const agent = await startAgent(host, { argv: [TSNET, 'agent'] })
  host.mustCni('ADD', { id: 'c1', netns: host.container('c1'), conf: NATIVE, runtimeConfig: PORT })
  host.container('h1')
  await settled(host)
  const before = standing(host)
  let done = 0
  for (let i = 0; i < CALLS; i++) {
    const { env, input } = hostileCall(i)
    const which = `TSNET_FUZZ_SEED=${SEED}, call ${i}: ${JSON.stringify(env)} ${input.slice(0, 500)}`
    const run = (command: string) =>
      host.run([TSNET], { env: { ...env, CNI_COMMAND: command, TSNET_SYSCTL_DIR: SYSCTL_FOLDER }, input, timeoutMs: 20_000 })
    const outcome = run(env['CNI_COMMAND'] ?? '')
    assertDecent(outcome, which)
    if (outcome.status !== 0) continue
    done++
    if (env['CNI_COMMAND'] === 'ADD') assert.equal(run('DEL').status, 0, which)
  }
  t.diagnostic(`${CALLS - done} of ${CALLS} refused`)
  assertSame(standing(host), before, `TSNET_FUZZ_SEED=${SEED}: hostile calls changed something`)
  assert.equal(agent.process.exitCode, null)
  host.mustCni('CHECK', { id: 'c1', netns: '/run/netns/c1', conf: NATIVE, prevResult: {} })
  host.mustCni('DEL', { id: 'c1', conf: NATIVE })
})

const WRITES = 'openat,open,creat,mkdir,mkdirat,rename,renameat2,unlink,unlinkat,rmdir,link,symlink,symlinkat,chmod,fchmodat,mknod,truncate'
const OWN = /^"(\/run\/tsnet(\/|")|\/run\/sysctl\.d(\/|")|\/proc\/(self|thread-self|sys)\/|\/dev\/null"|\/run\/xtables\.lock")/

hostTest('nothing is written outside the state folders, whatever is asked for', (host) => {
  host.container('h1')
  for (let i = 0; i < 10; i++) {
    const { env, input } = hostileCall(1_000_000 + i)
    host.run(['strace', '-f', '-o', '/run/trace', '-e', `trace=${WRITES}`, TSNET], {
      env: { ...env, CNI_COMMAND: 'ADD', TSNET_SYSCTL_DIR: SYSCTL_FOLDER },
      input,
    })
    const lines = host
      .exec(['cat', '/run/trace'])
      .split('\n')
      .filter((line) => /^\d+ +\w+\(/.test(line))
    for (const line of lines) {
      const [, call = '', words = ''] = /^\d+ +(\w+)\((?:AT_FDCWD, )?(.*)/.exec(line) ?? []
      if (call.startsWith('open') && !/O_(WRONLY|RDWR|CREAT)/.test(words)) continue
      assert.match(words, OWN, `call ${i}: ${line}`)
    }
    host.run([TSNET], { env: { ...env, CNI_COMMAND: 'DEL', TSNET_SYSCTL_DIR: SYSCTL_FOLDER }, input })
  }
})

hostTest("a prevResult that names what is other people's makes neither DEL, CHECK nor ADD touch it", async (host) => {
  const [c1, c2] = [host.container('c1'), host.container('c2')]
  host.sh('ip link add foreign type veth peer name other; ip link add br-foreign type bridge; ip link set br-foreign up')
  host.mustCni('ADD', { id: 'c2', netns: c2, runtimeConfig: PORT })
  await settled(host)
  const result = host.mustCni('ADD', { id: 'c1', netns: c1 })
  const prevResult = {
    cniVersion: '1.1.0',
    interfaces: [
      ...['foreign', 'br-foreign', 'uplink', 'lo', 'br-net'].map((name) => ({ name })),
      { name: 'eth0', sandbox: c2.path },
      { name: 'lo', sandbox: '/proc/1/ns/net' },
    ],
    ips: [{ interface: 5, address: '10.50.0.2/24' }, { address: '10.99.0.1/24' }],
    routes: [{ dst: '0.0.0.0/0' }],
  }
  const before = standing(host)
  assertRefused(host, 'ADD', { id: 'c1', netns: c1, prevResult }, 101)
  assert.equal(host.cni('CHECK', { id: 'c1', netns: c1, prevResult }).status, 0)
  for (const call of [
    { id: 'c3', netns: c2 },
    { id: 'c3', netns: '/proc/1/ns/net' },
    { id: 'c3', netns: c2, ifname: 'uplink' },
    { id: 'c2', netns: c2, ifname: 'lo' },
    { id: 'c2', netns: c1, ifname: 'foreign' },
  ])
    host.mustCni('DEL', { ...call, prevResult })
  assertSame(standing(host), before, "a DEL took what is other people's")
  host.mustCni('DEL', { id: 'c1', netns: c2, prevResult })
  assert.ok(!leasesOf(host).some((lease) => lease.startsWith(`${addressIn(result, 4)} `)))
  host.mustCni('CHECK', { id: 'c2', netns: c2, prevResult: {} })
  assert.match(host.sh('ip -br link'), /foreign@other[\s\S]*br-foreign/)
  host.mustCni('DEL', { id: 'c2', netns: c2 })
})

const ODD = [
  "'",
  '"',
  '`id`',
  '$(id)',
  ';id',
  '-o',
  '--help',
  '-',
  '\\',
  '*',
  '#',
  '!',
  '{}',
  'é',
  'a"b',
  "a'b",
  '~',
  '=',
  'eth0,eth1',
  '@',
  '&',
  '|',
  '<>',
  '[0]',
]

for (const backend of ['iptables', 'nftables']) {
  hostTest(`interfaces and containers with odd names are attached, checked and removed like others (${backend})`, async (host) => {
    await startAgent(host)
    const conf = { ...DUAL_STACK, backend }
    const netns = host.container('c1')
    const rules = rulesOf(host)
    for (const [i, ifname] of ODD.entries()) {
      const call = { id: `a.-_${i}`, netns, ifname, conf, runtimeConfig: PORT }
      host.mustCni('ADD', call)
      host.mustCni('CHECK', { ...call, prevResult: {} })
      assert.equal(netns.run(['ip', 'link', 'show', 'dev', ifname]).status, 0)
      host.mustCni('DEL', call)
    }
    assert.equal(rulesOf(host), rules)
    assertNothingLeft(host)
  })
}

hostTest('a path that leads to another namespace at every moment is opened once', async (host) => {
  const [c1, c2] = [host.container('c1'), host.container('c2')]
  const flipper = host.start(['sh', '-c', 'while :; do ln -sfn /run/netns/c1 /run/flip; ln -sfn /run/netns/c2 /run/flip; done'])
  host.sh('until [ -e /run/flip ]; do sleep 0.01; done')
  for (let i = 0; i < 8; i++) {
    const id = `f${i}`
    host.mustCni('ADD', { id, netns: '/run/flip', ifname: `if${i}` })
    const { netns } = JSON.parse(readState(host, `attachments/net/${id}:if${i}.json`)) as { readonly netns: { readonly inode: number } }
    const inside = [c1, c2].filter((container) => container.run(['ip', 'link', 'show', `if${i}`]).status === 0)
    assert.deepEqual(
      inside.map(({ path }) => statSync(host.machine.path(path)).ino),
      [netns.inode],
    )
  }
  flipper.kill('SIGKILL')
  for (let i = 0; i < 8; i++) host.mustCni('DEL', { id: `f${i}`, netns: '/run/netns/c1', ifname: `if${i}` })
  assertNothingLeft(host)
})

hostTest('a path that leads to no network namespace is refused with code 8, by whatever link', (host) => {
  const { pid } = host.machine
  host.sh(
    `ln -s /etc/passwd /run/file; ln -s /dev/zero /run/zero; ln -s loop /run/loop; ln -s /proc/${pid}/ns/mnt /run/mnt; mkfifo /run/fifo; ln -s fifo /run/pipe`,
  )
  assert.match(readlinkSync(`/proc/${pid}/ns/mnt`), /^mnt:/)
  for (const netns of [
    '/run/file',
    '/run/zero',
    '/run/loop',
    '/run/mnt',
    '/run/pipe',
    '/run',
    'relative',
    '/run/netns/../../etc/passwd',
    '/run/netns/%s\n',
    '--help',
  ])
    assertRefused(host, 'ADD', { netns }, 8)
  assertNothingLeft(host)
})
