import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, renameSync, rmSync, statSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { TsnetError } from '../error.ts'
import { lockFile } from './lock.ts'

function folder() {
  const path = mkdtempSync(join(tmpdir(), 'tsnet-lock-'))
  return { path, lock: join(path, 'lock'), [Symbol.dispose]: () => rmSync(path, { recursive: true }) }
}

test('lockFile() makes a private file and gives the lock back when disposed of, once', () => {
  using base = folder()
  const first = lockFile(base.lock)
  assert.equal(statSync(base.lock).mode & 0o777, 0o600)
  assert.throws(
    () => lockFile(base.lock, { timeoutMs: 5 }),
    (error: unknown) =>
      error instanceof TsnetError && error.code === 'TSNET_LOCK_TIMEOUT' && error.cniCode === 11 && error.message.includes(base.lock),
  )
  first[Symbol.dispose]()
  first[Symbol.dispose]()
  using second = lockFile(base.lock, { timeoutMs: 0 })
  assert.equal(second.path, base.lock)
})

test('shared locks go together, an exclusive one waits for them', () => {
  using base = folder()
  using one = lockFile(base.lock, { exclusive: false })
  using two = lockFile(base.lock, { exclusive: false, timeoutMs: 0 })
  assert.equal(one.path, two.path)
  assert.throws(() => lockFile(base.lock, { timeoutMs: 3 }), /has held it for 3 ms/)
})

test('lockFile() gets the lock of a process that ends, and looks anew when the file was replaced meanwhile', () => {
  using base = folder()
  writeFileSync(base.lock, '', { mode: 0o600 })
  const held = join(base.path, 'held')
  const replacing = spawn(
    'flock',
    ['-x', base.lock, 'sh', '-c', `umask 077; touch ${held}; sleep 0.15; touch ${base.lock}.new; mv ${base.lock}.new ${base.lock}; sleep 0.05`],
    { stdio: 'ignore' },
  )
  while (!existsSync(held)) spawnSync('sleep', ['0.01'])
  const inode = statSync(base.lock).ino
  using lock = lockFile(base.lock, { timeoutMs: 5_000 })
  assert.equal(lock.path, base.lock)
  assert.notEqual(statSync(base.lock).ino, inode)
  assert.equal(spawnSync('flock', ['-n', base.lock, 'true']).status, 1)
  replacing.kill()
})

test('lockFile() says why the file cannot be opened', () => {
  using base = folder()
  const refused = (path: string, cause: RegExp) =>
    assert.throws(
      () => lockFile(path),
      (error: unknown) => error instanceof TsnetError && error.code === 'TSNET_LOCK' && error.cniCode === 5 && cause.test(String(error.cause)),
    )
  refused(join(base.path, 'missing', 'lock'), /ENOENT/)
  symlinkSync('/etc/passwd', join(base.path, 'link'))
  refused(join(base.path, 'link'), /ELOOP/)
})

test('a lock on a file that was removed is not mistaken for one on its successor', () => {
  using base = folder()
  using old = lockFile(base.lock)
  unlinkSync(base.lock)
  using fresh = lockFile(base.lock, { timeoutMs: 0 })
  assert.notEqual(old, fresh)
  renameSync(base.lock, `${base.lock}.gone`)
  using third = lockFile(base.lock, { timeoutMs: 0 })
  assert.notEqual(third, fresh)
})

test('lockFile() refuses a file that others could have changed, unless it may be theirs', () => {
  using base = folder()
  writeFileSync(base.lock, '')
  chmodSync(base.lock, 0o644)
  assert.throws(
    () => lockFile(base.lock),
    (error: unknown) => error instanceof TsnetError && error.code === 'TSNET_STATE' && /open to other users \(mode 0644\)/.test(error.message),
  )
  using lock = lockFile(base.lock, { foreign: true })
  assert.equal(lock.path, base.lock)
})
