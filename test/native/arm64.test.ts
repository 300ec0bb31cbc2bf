import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { type TestContext, test } from 'node:test'

const ROOT = process.cwd()
const PATH = '/usr/sbin:/usr/bin:/sbin:/bin'
const COMPILER = 'aarch64-linux-gnu-gcc'
const EMULATOR = ['qemu-aarch64', 'qemu-aarch64-static'].find((name) => run(name, ['--version']).status === 0)
/** @see elf.h: e_machine, and EM_AARCH64 */
const MACHINE_OFFSET = 18
const AARCH64 = 183

function run(program: string, args: readonly string[], options: { env?: Record<string, string>; input?: string } = {}) {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', ...options })
  return { status, stdout, stderr }
}

/** @returns Why the test cannot run here. */
function obstacle(): string | false {
  if (run('make', ['--version']).status !== 0) return 'make is not installed'
  const library = run(COMPILER, ['-print-file-name=libc.a'])
  if (library.status !== 0) return 'The compiler for arm64 is not installed: gcc-aarch64-linux-gnu'
  if (!isAbsolute(library.stdout.trim())) return 'The C library for arm64 is not installed: libc6-dev-arm64-cross'
  return EMULATOR === undefined && 'The emulator of arm64 is not installed: qemu-user'
}

/** @returns The path of a launcher for arm64, built for a host where node is nowhere. */
function build(t: TestContext): string {
  const out = mkdtempSync(join(tmpdir(), 'tsnet-arm64-'))
  t.after(() => rmSync(out, { recursive: true, force: true }))
  const config = readFileSync(join(ROOT, 'build/native/config.h'), 'utf8')
  writeFileSync(join(out, 'config.h'), config.replace(/(#define TSNET_NODE) .*/, '$1 "/none/node"'))
  const made = run('make', ['-s', '-C', join(ROOT, 'native'), `OUT=${out}`, `CC=${COMPILER}`])
  assert.deepEqual(made, { status: 0, stdout: '', stderr: '' })
  return join(out, 'launcher')
}

test('the launcher for arm64 answers VERSION as the one of this machine, and says what it lacks without agent and node', {
  skip: obstacle(),
}, (t) => {
  const launcher = build(t)
  assert.equal(readFileSync(launcher).readUInt16LE(MACHINE_OFFSET), AARCH64)
  // The emulator is given none of arm64's libraries, so that only a static program runs.
  const emulated = ['-L', '/none', '-E', 'PATH=/none', launcher]
  const call = (command: string) => run(EMULATOR ?? '', emulated, { env: { PATH, CNI_COMMAND: command, TSNET_RUN_DIR: '/none' }, input: '{}' })
  assert.deepEqual(call('VERSION'), run(join(ROOT, 'dist/bin/tsnet'), [], { env: { CNI_COMMAND: 'VERSION' } }))
  const { status, stdout } = call('STATUS')
  assert.equal(status, 1)
  assert.deepEqual(JSON.parse(stdout), {
    code: 999,
    msg: 'Cannot run node: No such file or directory',
    details: 'It was /none/node when tsnet was built',
  })
})
