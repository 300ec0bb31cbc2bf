/** The command for people, on real namespaces, and together with a runtime. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { addressIn, type CniDocument, endNamespace, type Host, hostTest, TSNET } from './host.ts'
import type { Outcome } from './machine.ts'
import { assertNothingLeft, snapshot, stateFiles } from './state.ts'

const ENV = { NETCONFPATH: '/run/net.d' }
const BACKEND = { cniVersion: '1.0.0', name: 'backend', plugins: [{ type: 'tsnet', bridge: 'br-backend', ipam: { subnet: '10.60.0.0/24' } }] }

function tsnet(host: Host, ...args: readonly string[]): Outcome {
  return host.run([TSNET, ...args], { env: ENV })
}

/** @returns Standard output of a command that must work and must not complain. */
function must(host: Host, ...args: readonly string[]): string {
  const { status, stdout, stderr } = tsnet(host, ...args)
  assert.equal(status, 0, `tsnet ${args.join(' ')}: ${stderr}`)
  assert.equal(stderr, '')
  return stdout
}

/** Asserts that a command fails with one line on standard error, and returns it. */
function refused(host: Host, ...args: readonly string[]): string {
  const { status, stdout, stderr } = tsnet(host, ...args)
  assert.equal(status, 1, `tsnet ${args.join(' ')}: ${stdout}`)
  assert.match(stderr, /^tsnet: [^\n]+\. Hint: [^\n]+\n$/)
  return stderr
}

/** @returns The id of a process in a network namespace of its own. */
async function sleeper(host: Host, t: TestContext): Promise<number> {
  const child = host.start(['unshare', '-n', 'sh', '-c', 'echo ready; exec sleep infinity'])
  t.after(() => child.kill('SIGKILL'))
  await new Promise((resolve) => child.stdout?.once('data', resolve))
  return child.pid as number
}

hostTest('tsnet attach by name, by path and by process id; ls, inspect, check and detach', async (host, t) => {
  const [web] = [host.container('web'), host.container('db')]
  const pid = await sleeper(host, t)
  assert.equal(must(host, 'ls'), '')

  const printed = must(host, 'attach', 'web', '-p', '8080:80', '--publish', '127.0.0.1:8000-8002:9000-9002/udp')
  assert.equal(printed, 'web\teth0\t10.210.0.2/22\ttsnet0\ntcp://0.0.0.0:8080 -> 10.210.0.2:80\nudp://127.0.0.1:8000-8002 -> 10.210.0.2:9000-9002\n')
  await web.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port: 80 }, 'web')
  assert.equal((await host.outside.talker.ask({ protocol: 'tcp', address: '10.99.0.1', port: 8080 })).name, 'web')

  const result = JSON.parse(
    must(host, 'attach', '/run/netns/db', '--ip', '10.210.0.77', '--mac', '02:42:0A:D2:00:4D', '--id', 'database', '--json'),
  ) as CniDocument
  assert.equal(addressIn(result, 4), '10.210.0.77')
  assert.deepEqual(
    result.interfaces?.filter(({ sandbox }) => sandbox !== undefined).map(({ name, mac, sandbox }) => ({ name, mac, sandbox })),
    [{ name: 'eth0', mac: '02:42:0a:d2:00:4d', sandbox: '/run/netns/db' }],
  )
  assert.equal(must(host, 'attach', `pid:${pid}`, '--ifname', 'net0'), `pid-${pid}\tnet0\t10.210.0.3/22\ttsnet0\n`)

  await t.test('ls', () => {
    assert.equal(
      must(host, 'ls'),
      [
        'tsnet\tdatabase\teth0\t10.210.0.77/22\t-\tdb\n',
        `tsnet\tpid-${pid}\tnet0\t10.210.0.3/22\t-\tpid:${pid}\n`,
        'tsnet\tweb\teth0\t10.210.0.2/22\t8080->80/tcp,127.0.0.1:8000-8002->9000-9002/udp\tweb\n',
      ].join(''),
    )
    assert.equal(must(host, 'ls', '--network', 'other'), '')
    const records = JSON.parse(must(host, 'ls', '--json')) as readonly { readonly containerID: string; readonly status: string }[]
    assert.deepEqual(
      records.map(({ containerID, status }) => `${containerID} ${status}`),
      ['database attached', `pid-${pid} attached`, 'web attached'],
    )
  })

  await t.test('inspect names the rules that there are', () => {
    assert.equal(host.run(['nft', 'list', 'table', 'inet', 'tsnet']).status, 0)
    assert.match(must(host, 'inspect', 'web'), /^Way in\t.* -> nftables prerouting -> [\s\S]*^Way out\t.* -> nftables postrouting$/m)
  })
  await t.test('inspect by name, path, process id and container id', () => {
    for (const text of ['database', 'db', '/run/netns/db', host.machine.path('/run/netns/db')])
      assert.match(must(host, 'inspect', text), /^Address\t10\.210\.0\.77\/22 {2}gateway 10\.210\.0\.1$/m)
    for (const text of [String(pid), `pid:${pid}`, `/proc/${pid}/ns/net`, `pid-${pid}`])
      assert.match(must(host, 'inspect', text), /^Interface\tnet0 /m)
    const [record] = JSON.parse(must(host, 'inspect', 'web', '--json')) as readonly { readonly hostVeth: string }[]
    assert.match(
      must(host, 'inspect', 'web'),
      new RegExp(`^Way in\\t0\\.0\\.0\\.0:8080/tcp -> .* -> tsnet0 -> ${record?.hostVeth} -> eth0 in web$`, 'm'),
    )
  })

  await t.test('check says what is missing', () => {
    assert.equal(must(host, 'check', 'web'), 'web\teth0\ttsnet\tok\n')
    web.exec(['ip', 'addr', 'flush', 'dev', 'eth0'])
    assert.match(refused(host, 'check', 'web'), /lacks the address 10\.210\.0\.2\/22/)
    const [finding] = JSON.parse(tsnet(host, 'check', 'web', '--json').stdout) as readonly { readonly ok: boolean; readonly problem: string }[]
    assert.equal(finding?.ok, false)
    assert.match(finding?.problem ?? '', /10\.210\.0\.2/)
  })

  assert.equal(must(host, 'detach', String(pid)), `pid-${pid}\tnet0\t10.210.0.3/22\ttsnet\n`)
  assert.match(must(host, 'detach', 'database', '--json'), /"10\.210\.0\.77\/22"/)
  must(host, 'detach', '/run/netns/web')
  assertNothingLeft(host)
})

hostTest('what the command attached, a runtime removes, and the other way round', async (host, t) => {
  const web = host.container('web')
  const conf = { cniVersion: '1.1.0', name: 'tsnet', type: 'tsnet' }
  await t.test('tsnet attach, CNI CHECK, CNI DEL', () => {
    const prevResult = JSON.parse(must(host, 'attach', 'web', '-p', '8080:80', '--json'))
    host.mustCni('CHECK', { id: 'web', netns: web, conf, prevResult })
    assert.equal(host.cni('ADD', { id: 'web', netns: web, conf }).json.code, 101)
    host.mustCni('DEL', { id: 'web', netns: web, conf })
    assertNothingLeft(host)
  })
  await t.test('CNI ADD, tsnet check, tsnet detach', () => {
    const id = 'ab'.repeat(32)
    host.mustCni('ADD', { id, netns: web, conf, runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80 }] } })
    assert.equal(must(host, 'check', 'web'), `${id}\teth0\ttsnet\tok\n`)
    assert.match(must(host, 'inspect', id.slice(0, 12)), /^Published\ttcp:\/\/0\.0\.0\.0:8080 -> /m)
    must(host, 'detach', 'web')
    assertNothingLeft(host)
    host.mustCni('DEL', { id, netns: web, conf })
  })
})

hostTest('a second network, from a definition', (host) => {
  const web = host.container('web')
  host.exec(['sh', '-c', `mkdir -p /run/net.d && cat >/run/net.d/backend.conflist && echo '{' >/run/net.d/00-broken.conflist`], {
    input: JSON.stringify(BACKEND),
  })
  must(host, 'attach', 'web', '--id', 'shop')
  // The namespace is called what it is called already.
  assert.equal(
    must(host, 'attach', 'web', '--network', 'backend', '--ifname', 'eth1', '-p', '8080:80').split('\n')[0],
    'shop\teth1\t10.60.0.2/24\tbr-backend',
  )
  assert.deepEqual(
    web
      .json<{ ifname: string }>('ip', '-j', 'link')
      .map(({ ifname }) => ifname)
      .sort(),
    ['eth0', 'eth1', 'lo'],
  )
  assert.equal(must(host, 'check', 'web'), 'shop\teth1\tbackend\tok\nshop\teth0\ttsnet\tok\n')
  assert.equal(must(host, 'detach', 'web', '--network', 'backend'), 'shop\teth1\t10.60.0.2/24\tbackend\n')
  assert.equal(must(host, 'ls').split('\n').length, 2)
  must(host, 'detach', 'web')
  assertNothingLeft(host)
})

hostTest('containers whose namespace is gone', async (host, t) => {
  host.container('web')
  must(host, 'attach', 'web', '-p', '8080:80')
  await endNamespace(host, 'web')
  await t.test('are shown, and detached by the name that they had', () => {
    assert.match(must(host, 'ls'), /\tweb \(gone\)\n$/)
    assert.match(refused(host, 'check', 'web'), /is gone/)
    must(host, 'detach', 'web')
    assertNothingLeft(host)
  })
  await t.test('a namespace of the same name takes their place', () => {
    host.container('web')
    must(host, 'attach', 'web', '-p', '8080:80')
    host.exec(['ip', 'netns', 'del', 'web'])
    host.container('web')
    must(host, 'attach', 'web', '-p', '8080:80')
    assert.match(must(host, 'ls'), /\tweb\n$/)
  })
  await t.test('gc removes them and nothing else', async () => {
    host.container('dead')
    must(host, 'attach', 'dead', '-p', '8081:80')
    assert.equal(must(host, 'gc'), '')
    await endNamespace(host, 'dead')
    assert.match(must(host, 'gc'), /^dead\teth0\t10\.210\.\d+\.\d+\/22\ttsnet\n$/)
    assert.match(must(host, 'ls'), /^tsnet\tweb\t[^\n]*\n$/)
    must(host, 'detach', 'web')
    assertNothingLeft(host)
  })
})

hostTest('errors: one line with a hint, status 1, nothing changed', async (host, t) => {
  host.container('web')
  host.container('other')
  const pid = await sleeper(host, t)
  host.exec(['ip', 'netns', 'attach', String(pid), String(pid)])
  host.sh('mkdir -p /run/net.d /run/elsewhere; touch /run/netns/file /run/elsewhere/web; mount --bind /run/netns/other /run/elsewhere/web')
  must(host, 'attach', 'web', '-p', '8080:80')
  const before = snapshot(host)
  const cases: readonly (readonly [args: string, pattern: RegExp])[] = [
    ['attach nosuch', /"nosuch": \/run\/netns has no such name\. Hint: These exist: \d+, file, other, web$/],
    ['attach /nonexistent/web', /no such file/],
    ['attach pid:4194305', /process 4194305: it does not run/],
    ['attach 4194305', /no such name, and no process/],
    [`attach ${pid}`, /a namespace has that name and a process that id\. Hint: Say \/run\/netns\/\d+ or pid:\d+$/],
    ['attach pid:web', /no process id/],
    ['attach file', /it is no network namespace/],
    ['attach /proc/self/ns/net', /it is the one that tsnet runs in/],
    ['attach web', /attached already/],
    ['attach /run/elsewhere/web', /as "web": the namespace "\/run\/netns\/web" has this id\. Hint: Give another id with --id/],
    ['attach other -p 8080:80', /attachment "tsnet\/web:eth0" has it/],
    ['attach other -p web', /"web" is no port/],
    ['attach other --ip 10.210.0.2', /10\.210\.0\.2/],
    ['attach other --ip 192.0.2.1', /in no range/],
    ['attach other --ip 10.210.0.8 --ip 10.210.0.9', /Cannot hand out 10\.210\.0\.9: an attachment gets one address of each range/],
    ['attach other --network nosuch', /"nosuch": "\/run\/net\.d" has no definition.*Hint: Known are tsnet; /],
    ['attach other --frob', /Unknown argument: frob/],
    ['detach other', /nothing is attached to it/],
    ['detach web --network nosuch', /nothing is attached/],
    ['inspect other', /nothing is attached to it/],
    ['check other', /nothing is attached to it/],
    ['frobnicate', /Unknown command/],
  ]
  for (const [args, pattern] of cases) await t.test(`tsnet ${args}`, () => assert.match(refused(host, ...args.split(' ')).trimEnd(), pattern))
  await t.test('nothing changed', () => assert.deepEqual(snapshot(host), before))
  await t.test('without capabilities', () => {
    // The checkout may lie in a folder that is closed to others.
    host.sh(`mkdir /run/dist && mount --bind ${join(process.cwd(), 'dist')} /run/dist`)
    const asNobody = (...args: readonly string[]) =>
      host.run(['setpriv', '--reuid', '65534', '--clear-groups', '/run/dist/bin/tsnet', ...args], { env: ENV })
    const { status, stderr } = asNobody('attach', 'other')
    assert.equal(status, 1)
    assert.match(stderr, /^tsnet: Cannot attach: the process lacks CAP_NET_ADMIN and CAP_SYS_ADMIN\. Hint: [^\n]*sudo[^\n]*\n$/)
    assert.match(asNobody('ls').stderr, /closed to this user\. Hint: .*sudo/)
    host.sh('umount /run/dist')
  })
  await t.test('a reader that stops reading', () =>
    assert.equal(host.run(['bash', '-c', `set -o pipefail; ${TSNET} ls --json | true`], { env: ENV }).stderr, ''),
  )
  await t.test('TSNET_DEBUG=1 adds the stack', () =>
    assert.match(host.run([TSNET, 'detach', 'other'], { env: { ...ENV, TSNET_DEBUG: '1' } }).stderr, /\n\s+at /),
  )
  assert.ok(stateFiles(host).includes('attachments/tsnet/web:eth0.json'))
  host.sh('umount /run/elsewhere/web')
})

hostTest('completion in bash', (host) => {
  host.container('web')
  const complete = (...words: readonly string[]) => {
    const script = `PATH=${TSNET.replace(/\/tsnet$/, '')}:$PATH; source <(tsnet completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tsnet; printf '%s\\n' "\${COMPREPLY[@]}"`
    return host
      .exec(['bash', '-c', script, 'bash', 'tsnet', ...words], { env: ENV })
      .trim()
      .split('\n')
  }
  assert.deepEqual(complete('at'), ['attach'])
  assert.deepEqual(complete('attach', ''), ['web'])
  assert.deepEqual(complete('attach', 'web', '--net'), ['--network'])
  assert.deepEqual(complete('attach', 'web', '--network', ''), ['tsnet'])
  must(host, 'attach', 'web', '--id', 'shop')
  assert.deepEqual(complete('detach', ''), ['web', 'shop'])
  must(host, 'detach', 'shop')
})
