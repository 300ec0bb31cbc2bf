import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'

const ROOT = process.cwd()
const TSNET = join(ROOT, 'dist/bin/tsnet')
const PATH = '/usr/sbin:/usr/bin:/sbin:/bin'
/** What V8 reads at each start: the source, of which it only compiles what is called without being in the compiled code. */
const LARGEST_BUNDLE = 192 * 1024
const LARGEST_CODE = { cni: 560 * 1024, plugins: 600 * 1024 }
const NO_NAMESPACES = run('unshare', ['--map-root-user', '--net', '--mount', '--pid', '--fork', '--mount-proc', 'true']).status !== 0

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'tsnet-launcher-'))
  t.after(() => rmSync(path, { recursive: true, force: true }))
  return path
}

function run(program: string, args: readonly string[] = [], env: Readonly<Record<string, string>> = {}, input = '') {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', input, env: { PATH, TSNET_RUN_DIR: '/none', ...env } })
  return { status, stdout, stderr }
}

const inNode = (env: Readonly<Record<string, string>>, input = '') => run(process.execPath, [join(ROOT, 'dist/cni.cjs'), 'tsnet'], env, input)

test('the parsers of the launcher bear 300,000 mutated frames under the sanitizers', (t) => {
  const out = folder(t)
  copyFileSync(join(ROOT, 'build/native/config.h'), join(out, 'config.h'))
  const made = run('make', ['-s', '-C', join(ROOT, 'native'), `OUT=${out}`, 'fuzz'])
  assert.equal(made.status, 0, made.stderr)
  const { status, stdout, stderr } = run(join(out, 'fuzz'))
  assert.equal(status, 0, stderr)
  assert.match(stdout, /^300000 mutations, 150000 seeds accepted/)
})

test('the launcher answers VERSION in the bytes of the node program', () => {
  assert.deepEqual(run(TSNET, [], { CNI_COMMAND: 'VERSION' }), inNode({ CNI_COMMAND: 'VERSION' }))
})

test('the launcher passes what is wrong on to the node program', () => {
  for (const [env, input] of [
    [{ CNI_COMMAND: '' }, ''],
    [{ CNI_COMMAND: 'WHAT' }, ''],
    [{ CNI_COMMAND: 'STATUS' }, '{'],
    [{ CNI_COMMAND: 'ADD' }, 'x'.repeat(100_000)],
    [{ CNI_COMMAND: 'STATUS' }, 'x'.repeat(2 ** 20 + 1)],
  ] as const) {
    assert.deepEqual(run(TSNET, [], env, input), inNode(env, input))
  }
})

test('the launcher is the command without CNI_COMMAND, and finds its bundles from anywhere', (t) => {
  const there = join(folder(t), 'other name')
  copyFileSync(TSNET, there)
  for (const program of [TSNET, there]) assert.match(run(program, ['--version']).stdout, /^\d+\.\d+\.\d+\n$/)
  const nodeVariables = { NODE_OPTIONS: '--no-such-option', NODE_EXTRA_CA_CERTS: '/none', NODE_DEBUG: 'fs,module', NODE_PATH: '/none' }
  assert.deepEqual(run(there, ['--version'], nodeVariables), run(TSNET, ['--version']))
})

test('the launcher works without standard files', () => {
  const closed = run('sh', ['-c', `exec "$0" <&- 2>&-`, TSNET], { CNI_COMMAND: 'STATUS' })
  assert.equal(closed.status, 1)
  assert.match(closed.stdout, /Standard input is empty/)
})

test('without make the build says so, and its shell scripts answer the same', (t) => {
  const copy = folder(t)
  for (const name of ['src', 'scripts', 'native', 'package.json']) cpSync(join(ROOT, name), join(copy, name), { recursive: true })
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'))
  const built = run(process.execPath, [join(copy, 'scripts/build.mjs')], { PATH: '/none' })
  assert.equal(built.status, 0, built.stderr)
  assert.match(built.stderr, /launcher was not compiled \(make is not installed\)/)
  const script = join(copy, 'dist/bin/tsnet')
  assert.match(readFileSync(script, 'utf8'), /^#!\/bin\/sh\n/)
  assert.deepEqual(optionsFrom(t, script, true), optionsFrom(t, TSNET, true))
  assert.deepEqual(optionsFrom(t, script, false), [])
  for (const env of [{ CNI_COMMAND: 'VERSION' }, { CNI_COMMAND: 'WHAT' }]) assert.deepEqual(run(script, [], env), run(TSNET, [], env))
  assert.deepEqual(run(script, ['--version']), run(TSNET, ['--version']))
})

/** @returns The options with which a program of ours starts node. @param ofBuild Whether node is as large as the build's. */
function optionsFrom(t: TestContext, program: string, ofBuild: boolean, env: Readonly<Record<string, string>> = { CNI_COMMAND: 'STATUS' }) {
  const there = folder(t)
  const node = join(there, '.tsnet/node')
  copyFileSync(program, join(there, 'tsnet'))
  mkdirSync(join(there, '.tsnet'))
  writeFileSync(node, '#!/bin/sh\nfor word; do case $word in -*) echo "$word" ;; esac; done\nexit\n', { mode: 0o755 })
  if (ofBuild) truncateSync(node, statSync(process.execPath).size)
  return run(join(there, 'tsnet'), [], env)
    .stdout.split('\n')
    .filter((word) => word !== '')
}

test('only the node of the build gets options, and only for one call', (t) => {
  assert.ok(optionsFrom(t, TSNET, true).includes('--no-rehash-snapshot'))
  assert.deepEqual(optionsFrom(t, TSNET, false), [])
  assert.deepEqual(optionsFrom(t, TSNET, true, {}), [])
})

test('the options of the launcher leave random numbers random', (t) => {
  const draw = () => run(process.execPath, [...optionsFrom(t, TSNET, true), '--print', 'Math.random()']).stdout
  assert.notEqual(draw(), draw())
})

test('V8 takes the code beside the bundles under the options of the launcher', (t) => {
  const options = optionsFrom(t, TSNET, true)
  for (const stem of [stemOf('cni'), stemOf('plugins')]) {
    const script = `const { readFileSync } = require('fs')
      const cachedData = readFileSync('${stem}.code')
      console.log(new (require('vm').Script)(readFileSync('${stem}.js', 'latin1'), { filename: '${stem}.js', cachedData }).cachedDataRejected)`
    assert.deepEqual(run(process.execPath, [...options, '--eval', script]), { status: 0, stdout: 'false\n', stderr: '' })
  }
})

test('the compiled code is that of what a call runs', { skip: NO_NAMESPACES && 'The build cannot rehearse calls here' }, () => {
  for (const [bundle, largest] of Object.entries(LARGEST_CODE)) assert.ok(statSync(`${stemOf(bundle)}.code`).size < largest)
})

test("the plugin's bundle stays small, and it and the other load nothing that is slow to load", () => {
  assert.ok(statSync(`${stemOf('cni')}.js`).size < LARGEST_BUNDLE)
  for (const bundle of ['cni', 'plugins']) {
    const modules = new Set([...readFileSync(`${stemOf(bundle)}.js`, 'utf8').matchAll(/require\("([^"]+)"\)/g)].map(([, name]) => name))
    assert.deepEqual([...modules].sort(), ['node:fs', 'node:path', 'node:util'])
  }
})

/** @returns The path, without its ending, of the files that a bundle's loader reads. */
function stemOf(bundle: string): string {
  const [, stem = ''] = /'\/(\w+\.[0-9a-f]+)\.js'/.exec(readFileSync(join(ROOT, 'dist', `${bundle}.cjs`), 'utf8')) ?? []
  return join(ROOT, 'dist', stem)
}
