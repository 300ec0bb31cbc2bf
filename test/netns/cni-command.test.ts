/** `tsnet cni`: a runtime by hand, on foreign plugins and on our own. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { CniDocument, Host } from './host.ts'
import { addressIn, hostTest, TSNET } from './host.ts'
import type { Outcome } from './machine.ts'
import { assertNothingLeft, rulesOf } from './state.ts'

const REFERENCE = '/usr/lib/cni'
const OWN = dirname(TSNET)
const CAPABILITIES = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] }
const BRIDGE = {
  type: 'bridge',
  bridge: 'cni0',
  isDefaultGateway: true,
  ipMasq: true,
  ipam: { type: 'host-local', subnet: '10.22.0.0/24', dataDir: '/run/leases' },
}

/** What a plugin does that is a script: it writes down how it is called, and goes on with `then`. */
const RECORDING = (then: string) => `#!/bin/sh
{ printf '{"command":"%s","id":"%s","ifname":"%s","netns":"%s","args":"%s","input":' "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_IFNAME" "$CNI_NETNS" "$CNI_ARGS"
  cat; echo '}'; } >>/run/calls
${then}
`

interface Recorded {
  readonly command: string
  readonly id: string
  readonly ifname: string
  readonly netns: string
  readonly args: string
  readonly input: Readonly<Record<string, unknown>>
}

function define(host: Host, name: string, list: object): void {
  writeFile(host, `/run/net.d/${name}.conflist`, JSON.stringify({ cniVersion: '1.1.0', name, ...list }))
}

function writeFile(host: Host, path: string, text: string): void {
  host.exec(['sh', '-c', 'mkdir -p "$(dirname "$0")"; cat >"$0"; chmod 755 "$0"', path], { input: text })
}

function cni(host: Host, args: string, env: Readonly<Record<string, string>> = {}): Outcome {
  const variables = { NETCONFPATH: '/run/net.d', CNI_PATH: `${REFERENCE}:/run/plugins:${OWN}`, CNI_CACHE_DIR: '/run/cache', ...env }
  return host.run([TSNET, 'cni', ...args.split(' ')], { env: variables })
}

function must(host: Host, args: string, env?: Readonly<Record<string, string>>): string {
  const { status, stdout, stderr } = cni(host, args, env)
  assert.equal(status, 0, `tsnet cni ${args}: ${stderr}`)
  assert.equal(stderr, '')
  return stdout
}

function calls(host: Host): readonly Recorded[] {
  const path = host.machine.path('/run/calls')
  const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : []
  host.sh('rm -f /run/calls')
  return lines.map((line) => JSON.parse(line) as Recorded)
}

const cached = (host: Host) => host.sh('ls /run/cache/results 2>/dev/null || true').split('\n').filter(Boolean)
const leases = (host: Host) => host.sh('ls /run/leases/* | grep "^10" || true').split('\n').filter(Boolean)

hostTest("the reference's bridge and portmap: ADD, CHECK, DEL, and a real connection", async (host, t) => {
  const web = host.container('web')
  define(host, 'ref', { cniVersion: '1.0.0', plugins: [BRIDGE, { type: 'portmap', capabilities: { portMappings: true } }] })
  const result = JSON.parse(must(host, 'add ref web', { CAP_ARGS: JSON.stringify(CAPABILITIES) })) as CniDocument
  assert.equal(result.cniVersion, '1.0.0')
  assert.equal(addressIn(result, 4), '10.22.0.2')
  await web.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port: 80 }, 'web')
  assert.equal((await host.outside.talker.ask({ protocol: 'tcp', address: '10.99.0.1', port: 8080 })).name, 'web')
  const [name = ''] = cached(host)
  assert.match(name, /^ref-cnitool-[0-9a-f]{20}-eth0$/)
  await t.test('a second ADD is refused and takes nothing away', async () => {
    const { status, stderr } = cni(host, 'add ref web')
    assert.equal(status, 1)
    assert.match(stderr, /it is in it already, as "eth0". Hint: tsnet cni del takes it out\n$/)
    assert.equal((await host.outside.talker.ask({ protocol: 'tcp', address: '10.99.0.1', port: 8080 })).name, 'web')
  })
  await t.test('an interface of somebody else outlives an ADD that it stands in the way of', () => {
    const { status, stderr } = cni(host, 'add ref web --id other')
    assert.equal(status, 1)
    assert.match(stderr, /^tsnet: The plugin "bridge" failed: [^\n]*already exists/)
    assert.match(web.exec(['ip', 'addr', 'show', 'eth0']), /10\.22\.0\.2/)
  })
  await t.test('CHECK', () => {
    // portmap 1.1.1 finds fault with whatever it has made where there is ip6tables.
    define(host, 'plain', { cniVersion: '1.0.0', plugins: [BRIDGE] })
    must(host, 'add plain web --ifname eth1')
    assert.match(must(host, 'check plain web', { CNI_IFNAME: 'eth1' }), /^cnitool-[0-9a-f]{20}\teth1\tplain\tok\n$/)
    web.exec(['ip', 'addr', 'flush', 'dev', 'eth1'])
    assert.match(cni(host, 'check plain web --ifname eth1').stderr, /^tsnet: The plugin "bridge" failed: /)
    must(host, 'del plain web --ifname eth1')
    must(host, 'del plain web --ifname eth1')
    assert.match(cni(host, 'check plain web --ifname eth1').stderr, /has no result of its ADD/)
  })
  // What ADD was given is remembered: portmap deletes nothing for a DEL without ports.
  host.sh('rm -r /run/net.d')
  must(host, 'del ref web')
  assert.deepEqual(cached(host), [])
  assert.deepEqual(leases(host), [])
  assert.doesNotMatch(rulesOf(host), /8080/)
})

hostTest('a chain whose last plugin fails is taken back, the failed plugin included', (host) => {
  host.container('web')
  define(host, 'ref', { plugins: [{ type: 'tsnet', bridge: 'br-net' }, { type: 'recorder', capabilities: { mac: true } }, { type: 'broken' }] })
  writeFile(host, '/run/plugins/recorder', RECORDING(`[ $CNI_COMMAND != ADD ] || echo '{"ips":[{"address":"192.0.2.1/32"}]}'`))
  writeFile(
    host,
    '/run/plugins/broken',
    RECORDING(`[ $CNI_COMMAND != ADD ] || { echo 'some log' >&2; echo '{"code":107,"msg":"the moon is full","details":"wait"}'; exit 1; }`),
  )
  const { status, stdout, stderr } = cni(host, 'add ref web', { CNI_ARGS: 'IgnoreUnknown=1;A=1', CAP_ARGS: '{"mac":"02:00:00:00:00:01","other":1}' })
  assert.deepEqual([status, stdout], [1, ''])
  assert.match(stderr, /^some log\ntsnet: The plugin "broken" failed: the moon is full; wait\. Hint: [^\n]*\n$/)
  assertNothingLeft(host)
  const all = calls(host)
  assert.deepEqual(
    all.map(({ command, input }) => `${command} ${String(input['type'])}`),
    ['ADD recorder', 'ADD broken', 'DEL broken', 'DEL recorder'],
  )
  assert.deepEqual([...new Set(all.map(({ args, ifname, netns }) => `${args} ${ifname} ${netns}`))], ['IgnoreUnknown=1;A=1 eth0 /run/netns/web'])
  const [first, second] = all.map(({ input }) => input)
  assert.deepEqual(first?.['runtimeConfig'], { mac: '02:00:00:00:00:01' })
  assert.equal((Object(first?.['prevResult']) as CniDocument).interfaces?.[0]?.name, 'br-net')
  assert.deepEqual(second?.['prevResult'], { cniVersion: '1.1.0', ips: [{ address: '192.0.2.1/32' }] })
})

hostTest('CHECK, GC and STATUS go to every plugin, in this process or another, unless the list forbids', (host) => {
  const [one] = [host.container('one'), host.container('two'), host.container('kept')]
  define(host, 'net', { plugins: [{ type: 'tsnet', bridge: 'br-net' }] })
  writeFile(host, '/run/net.d/net/50-more.conf', JSON.stringify({ type: 'recorder' }))
  writeFile(
    host,
    '/run/plugins/recorder',
    RECORDING(`[ $CNI_COMMAND != ADD ] || sed 's/.*"prevResult"://; s/}$//' /run/last 2>/dev/null || echo null`),
  )
  for (const name of ['one', 'two']) must(host, `add net ${name} --id ${name} --ifname net0`)
  host.mustCni('ADD', { id: 'kept', netns: '/run/netns/kept', conf: { cniVersion: '1.1.0', name: 'net', type: 'tsnet', bridge: 'br-net' } })
  calls(host)

  assert.equal(must(host, 'check net one --id one --ifname net0'), 'one\tnet0\tnet\tok\n')
  assert.equal(must(host, 'status net'), 'net\tready\n')
  host.exec(['ip', 'netns', 'del', 'two'])
  assert.equal(must(host, 'gc net /run/netns/none'), 'two\tnet0\tnet\tdeleted\n')
  const [check, status, del, gc] = calls(host)
  assert.deepEqual([check?.command, check?.netns], ['CHECK', one.path])
  assert.deepEqual([status?.command, status?.id, status?.input['name']], ['STATUS', '', 'net'])
  assert.deepEqual([del?.command, del?.id, del?.netns], ['DEL', 'two', ''])
  const valid = [
    { containerID: 'one', ifname: 'net0' },
    { containerID: 'kept', ifname: 'eth0' },
  ]
  assert.deepEqual([gc?.command, gc?.id, gc?.input['cni.dev/valid-attachments'], gc?.input['prevResult']], ['GC', '', valid, undefined])
  assert.equal(host.exec([TSNET, 'ls']).split('\n').length, 3)

  assert.deepEqual(JSON.parse(must(host, 'gc net --all --json')), {
    action: 'gc',
    network: 'net',
    asked: true,
    deleted: [{ containerID: 'one', ifname: 'net0' }],
  })
  assertNothingLeft(host)
  calls(host)
  define(host, 'net', { disableGC: 'true', disableCheck: true, loadOnlyInlinedPlugins: true, plugins: [{ type: 'recorder' }] })
  must(host, 'add net one')
  assert.match(must(host, 'check net one'), /\tnot asked\n$/)
  assert.equal(must(host, 'gc net'), 'net\tnot asked\n')
  assert.deepEqual(
    calls(host).map(({ command }) => command),
    ['ADD'],
  )
})

hostTest('what a plugin does wrong is said in one line', async (host, t) => {
  host.container('web')
  const cases: readonly (readonly [script: string, message: RegExp])[] = [
    ['echo not JSON', /Cannot read the answer of the plugin "odd" as JSON/],
    ['exit 3', /The plugin "odd" failed: It ended with status 3/],
    ['echo oh no >&2; exit 1', /^oh no\ntsnet: The plugin "odd" failed: oh no/],
    ['kill -9 $$', /The plugin "odd" failed: It ended with status 137/],
    [`echo '{"ips":[{"address":"here"}]}'`, /Invalid "result.ips\[0\].address": "here"/],
  ]
  define(host, 'odd', { plugins: [{ type: 'odd' }] })
  for (const [script, message] of cases) {
    await t.test(script, () => {
      writeFile(host, '/run/plugins/odd', `#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\n${script}\n`)
      const { status, stderr } = cni(host, 'add odd web')
      assert.equal(status, 1)
      assert.match(stderr, message)
    })
  }
  await t.test('not executable', () => {
    host.sh('chmod 644 /run/plugins/odd')
    assert.match(cni(host, 'add odd web').stderr, /Cannot run "\/run\/plugins\/odd": [^\n]*EACCES/)
  })
  await t.test('a program that is just being written', async () => {
    writeFile(host, '/run/plugins/odd', '')
    host.sh('cp /bin/true /run/plugins/odd')
    const writer = host.start(['sh', '-c', 'exec 9>>/run/plugins/odd; echo open; sleep 0.7'])
    await new Promise((resolve) => writer.stdout?.once('data', resolve))
    assert.equal(must(host, 'add odd web'), '{\n  "cniVersion": "1.1.0"\n}\n')
    must(host, 'del odd web')
  })
  await t.test('no such plugin', () => {
    define(host, 'none', { plugins: [{ type: 'tsnet' }, { type: 'nosuch' }] })
    const { stderr } = cni(host, 'add none web')
    assert.match(stderr, /^tsnet: Cannot find the plugin "nosuch" in CNI_PATH "\/usr\/lib\/cni:[^\n]*Hint: Install it/)
  })
  assertNothingLeft(host)
})
