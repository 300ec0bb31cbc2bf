import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { test } from 'node:test'
import { KernelError, TsnetError } from '../error.ts'
import { type Outcome, type Program, startProgram } from './spawn.ts'

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
