import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { TsnetError } from '../error.ts'
import { iptables } from '../nat/iptables/backend.ts'
import { deleteLinks } from '../netlink/rtnetlink.ts'
import type { Capability } from '../sys/capability.ts'
import { openNetns } from '../sys/netns.ts'
import { runCommandLine } from './command-line.ts'
import type { Shell } from './shell.ts'
import { PLAIN } from './style.ts'

interface Trial {
  readonly missing?: readonly Capability[]
  readonly userID?: number
}

/** @returns What a command prints, in a host where nothing is attached; no command may get so far as to change something. */
async function run(t: TestContext, args: readonly string[], { missing = ['CAP_NET_ADMIN'], userID = 1000 }: Trial = {}): Promise<string> {
  const root = mkdtempSync(join(tmpdir(), 'tsnet-command-'))
  t.after(() => rmSync(root, { recursive: true, force: true }))
  let output = ''
  const shell: Shell = {
    env: { SHELL: '/bin/bash', NETCONFPATH: '/nonexistent' },
    cwd: '/',
    programs: join(process.cwd(), 'dist/bin'),
    node: process.execPath,
    style: PLAIN,
    userID,
    readInput: () => '{"id":"c1","status":"running"}',
    print: (text) => {
      output += text
    },
    complain: () => {},
    untilStopped: () => AbortSignal.abort(),
    missingCapabilities: () => missing,
    openContext: () => ({
      state: { root: join(root, 'state') },
      backends: [iptables],
      backend: iptables,
      warn: () => {},
      openNetns,
      deleteLinks,
      timeLimitMs: 30_000,
    }),
    becomeAgent: () => {
      throw new Error('No test serves')
    },
  }
  await runCommandLine(args, shell, '1.2.3')
  return output
}

const COMMANDS = [
  'attach',
  'detach',
  'ls',
  'inspect',
  'check',
  'port',
  'repair',
  'gc',
  'agent',
  'ipam',
  'cni',
  'install',
  'uninstall',
  'oci-hook',
  'completion',
]

test('--version prints the version', async (t) => assert.equal(await run(t, ['--version']), '1.2.3\n'))

test('help: without a command, of the whole, and with examples of every command', async (t) => {
  const whole = await run(t, [])
  assert.equal(whole, await run(t, ['--help']))
  for (const command of COMMANDS) {
    assert.match(whole, new RegExp(`^ {2}tsnet ${command}\\b`, 'm'))
    const help = await run(t, [command, '--help'])
    assert.match(help, /^Examples:$/m)
    for (const line of help.split('\n')) assert.ok(line.length <= PLAIN.columns, line)
  }
})

const refused: readonly (readonly [args: string, message: RegExp, hint: RegExp])[] = [
  ['frobnicate', /^Unknown command: frobnicate$/, /tsnet --help/],
  ['atach web', /^Unknown command: atach$/, /Did you mean attach/],
  ['attach', /^Cannot attach: no namespace is named$/, /tsnet attach web/],
  ['inspect', /^Cannot inspect: no namespace or container id is named$/, /tsnet inspect web/],
  ['rm web', /^Unknown command: rm$/, /^See tsnet --help$/],
  ['attach web 8080:80', /^Unknown argument: 8080:80$/, /^A port comes behind -p: -p 8080:80; see tsnet attach --help$/],
  ['port rm web 127.0.0.1:53:53/udp', /^Unknown argument: /, / -p 127\.0\.0\.1:53:53\/udp; /],
  ['attach web extra', /^Unknown argument: extra$/, /tsnet attach --help/],
  ['attach web --frob', /^Unknown argument: frob$/, /tsnet attach --help/],
  ['attach web --no-json', /^Unknown argument: no-json$/, /tsnet attach --help/],
  ['attach web -p', /^Cannot use -p without a value$/, /tsnet attach --help/],
  ['attach web --id', /^Cannot use --id without a value$/, /tsnet attach --help/],
  ['attach web --id=', /^Cannot use --id without a value$/, /--id and a value/],
  ['attach web --id a --id b', /^Cannot use --id 2 times$/, /once/],
  ['attach web --id ../x', /^Cannot use --id "\.\.\/x": a container id is made of/, /another/],
  ['attach web --network -x', /--?network|x/, /tsnet attach --help/],
  ['attach web --network a/b', /^Cannot use --network "a\/b": a network name/, /another/],
  ['attach web --ifname 0123456789abcdef', /^Cannot use --ifname .* 1 to 15/, /another/],
  ['attach web --mac zz', /^Cannot use --mac: "zz" is not a MAC/, /02:42/],
  ['attach web --ip web', /^Cannot use --ip "web": it is no IP address$/, /10\.210\.0\.5/],
  ['attach web -pweb', /^Cannot publish "web": "web" is no port/, /8080:80/],
  ['port', /^Cannot tell what to do: tsnet port takes an action and a container$/, /tsnet port ls web/],
  ['port ls', /^Cannot tell what to do/, /tsnet port ls web/],
  ['port show web', /^Cannot "show" ports: there is no such action$/, /add, rm or ls/],
  ['port add web', /^Cannot add ports: none is named$/, /-p 8443:443/],
  ['port ls web -p 80', /^Cannot use -p with tsnet port ls$/, /all/],
  ['port ls web', /^Cannot find the ports of "web": nothing is attached to it$/, /tsnet attach/],
  ['attach web -p 1:1 -p2:70000', /^Cannot publish "2:70000"/, /65535/],
  ['cni', /^Cannot tell what to do: tsnet cni takes an action and a network$/, /tsnet cni add web c1/],
  ['cni run web', /^Cannot "run" a network: there is no such action$/, /add, check, del, gc, status/],
  ['cni add web', /^Cannot add a network: no namespace is named$/, /tsnet cni add web web/],
  ['cni add a/b c1', /^Cannot use --network "a\/b"/, /another/],
  ['cni del web c1 --all', /^Cannot use --all with tsnet cni del$/, /gc/],
  ['cni status web', /^Cannot find the network "web"/, /None is known; to define it/],
  ['install --as bridge,nosuch', /^Cannot install "(bridge|nosuch)": tsnet is no such plugin$/, /Known are tsnet, loopback/],
  ['install --conf-dir /x', /^Cannot use --conf-dir without --network$/, /definition/],
  ['uninstall --bin-dir /nonexistent', /^Cannot uninstall from "\/nonexistent": tsnet is not installed there$/, /--bin-dir/],
  ['oci-hook start', /^Cannot "start" a container: there is no such action$/, /attach, detach/],
  ['ipam', /^Cannot tell what to do: tsnet ipam takes an action$/, /tsnet ipam check/],
  ['ipam mend', /^Cannot "mend" address books: there is no such action$/, /ipam check/],
  ['completion fish', /^Cannot complete in "fish"/, /bash or zsh/],
  ['inspect web', /^Cannot inspect "web": nothing is attached to it$/, /tsnet attach/],
]

for (const [args, message, hint] of refused) {
  test(`tsnet ${args}: is refused with a hint`, (t) =>
    assert.rejects(run(t, args.split(' ')), (error) => {
      assert.ok(error instanceof TsnetError, String(error))
      assert.match(error.message, message)
      assert.match(error.hint ?? '', hint)
      return true
    }))
}

for (const command of [
  'attach web',
  'detach web',
  'check web',
  'port add web -p 80',
  'port rm web -p 80',
  'gc',
  'cni del web c1',
  'cni gc web',
  'oci-hook',
  'ipam check',
]) {
  test(`tsnet ${command}: says which capability is missing before anything else`, async (t) => {
    const args = command.split(' ')
    await assert.rejects(
      run(t, args),
      (error) =>
        error instanceof TsnetError &&
        error.code === 'TSNET_PERMISSION' &&
        /CAP_NET_ADMIN$/.test(error.message) &&
        /sudo tsnet/.test(error.hint ?? ''),
    )
    await assert.rejects(run(t, args, { userID: 0 }), (error) => error instanceof TsnetError && /root without it/.test(error.hint ?? ''))
  })
}

test('ls of a host without attachments', async (t) => {
  assert.equal(await run(t, ['ls']), '')
  assert.equal(await run(t, ['list', '--json']), '[]\n')
})

test('completion knows the commands and options that there are', async (t) => {
  for (const shell of ['bash', 'zsh']) assert.match(await run(t, ['completion', shell]), /tsnet --complete/)
  assert.match(await run(t, ['completion']), /complete -o default -F _tsnet tsnet/)
  const commands = (await run(t, ['--complete', ''])).split('\n')
  for (const command of COMMANDS) {
    assert.ok(commands.includes(command), command)
    const help = await run(t, [command, '--help'])
    const options = [...help.matchAll(/^ {2}(?:-\w, | {4})(--[a-z-]+)/gm)].map(([, option]) => option).filter((option) => option !== '--version')
    const offered = (await run(t, ['--complete', command, '--'])).trimEnd().split('\n')
    assert.deepEqual(offered.sort(), options.sort())
  }
  assert.equal(await run(t, ['--complete', 'at']), 'attach\n')
  assert.equal(await run(t, ['--complete', 'attach', 'web', '--network', 't']), 'tsnet\n')
  assert.equal(await run(t, ['--complete', 'completion', 'z']), 'zsh\n')
  assert.equal(await run(t, ['--complete', 'port', '']), 'add\nrm\nls\n')
  assert.equal(await run(t, ['--complete', 'ipam', '']), 'check\n')
  assert.equal(await run(t, ['--complete', 'attach', 'web', '-p', '']), '')
})

test('docs/errors.md explains every code that occurs in the source, and no other', () => {
  const sources = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.ts') && !path.endsWith('.test.ts'))
  const used = new Set(
    sources.flatMap((path) => [...readFileSync(join('src', path), 'utf8').matchAll(/(?<!\[)'(TSNET_[A-Z_]+)'/g)].map(([, code]) => code)),
  )
  const documented = [...readFileSync('docs/errors.md', 'utf8').matchAll(/^\| `(TSNET_[A-Z_]+)`/gm)].map(([, code]) => code)
  assert.deepEqual(documented, [...used].sort(), 'each once, sorted')
})
