import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { KernelError, TsnetError } from '../error.ts'
import { type FileLock, lockFile } from './lock.ts'
import { type Outcome, type Program, startProgram } from './spawn.ts'
import { now } from './time.ts'
import { withTimeLimit } from './time-limit.ts'

const sh = (script: string, more: { stdin?: string; timeoutMs?: number } = {}) => ({
  path: '/bin/sh',
  args: ['-c', script],
  timeoutMs: more.timeoutMs ?? 10_000,
  ...(more.stdin !== undefined && { stdin: more.stdin }),
})
const runProgram = (program: Program): Outcome => startProgram(program).finish()
const openFds = () => readdirSync('/proc/self/fd').length

test('startProgram() returns status, output and problems apart', () => {
  assert.deepEqual(runProgram(sh('echo out; echo err >&2; exit 3')), { status: 3, stdout: 'out\n', stderr: 'err\n' })
  assert.equal(runProgram(sh('kill -9 $$')).status, 128 + 9)
})

test('startProgram() feeds and drains more than a pipe holds', () => {
  const stdin = 'x'.repeat(1_000_000)
  assert.equal(runProgram(sh('cat', { stdin })).stdout, stdin)
})

test('startProgram() bears a program that does not read its input', () => {
  assert.equal(runProgram(sh('exec 0<&-; echo done', { stdin: 'x'.repeat(1_000_000) })).stdout, 'done\n')
})

test('startProgram() kills what runs too long', () => {
  assert.throws(
    () => runProgram(sh('sleep 100', { timeoutMs: 50 })),
    (error) => error instanceof TsnetError && error.code === 'TSNET_TIMEOUT',
  )
})

test('startProgram() kills what closes its outputs and goes on', () => {
  assert.throws(
    () => runProgram(sh('exec >&- 2>&-; exec sleep 100', { timeoutMs: 50 })),
    (error) => error instanceof TsnetError && error.code === 'TSNET_TIMEOUT',
  )
})

test('startProgram() keeps the time limit of the call', () => {
  const before = now()
  assert.throws(
    () => withTimeLimit(50, () => runProgram(sh('sleep 100'))),
    (error) => error instanceof TsnetError && error.cniCode === 11,
  )
  assert.ok(now() - before < 5000)
})

test('startProgram() hands the locks of this thread down where it is asked to, and they are held until the program ends', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-spawn-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const [first, second] = ['first', 'second'].map((name) => lockFile(join(folder, name)))
  const running = startProgram({ ...sh('read _', { stdin: 'x'.repeat(1_000_000) }), inheritsLocks: true })
  const isHeld = (lock: FileLock | undefined) => {
    try {
      lockFile(lock?.path ?? '', { timeoutMs: 0 })[Symbol.dispose]()
      return false
    } catch (error) {
      assert.ok(error instanceof TsnetError && error.code === 'TSNET_LOCK_TIMEOUT', String(error))
      return true
    }
  }
  first?.[Symbol.dispose]()
  second?.[Symbol.dispose]()
  assert.deepEqual([isHeld(first), isHeld(second)], [true, true])
  running.finish()
  assert.deepEqual([isHeld(first), isHeld(second)], [false, false])
})

test('startProgram() passes no environment on', () => {
  process.env['TSNET_SECRET'] = 'x'
  assert.doesNotMatch(runProgram(sh('env')).stdout, /TSNET_SECRET/)
})

test('startProgram() names a program that cannot be run', () => {
  assert.throws(
    () => startProgram({ path: '/nonexistent', args: [], timeoutMs: 1 }),
    (error) => error instanceof KernelError && error.errnoName === 'ENOENT',
  )
})

test('startProgram() leaves no descriptor open', () => {
  runProgram(sh('true'))
  const before = openFds()
  for (let i = 0; i < 20; i++) runProgram(sh('echo x'))
  assert.throws(() => runProgram({ path: '/nonexistent', args: [], timeoutMs: 1 }))
  assert.equal(openFds(), before)
})
