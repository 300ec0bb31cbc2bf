import assert from 'node:assert/strict'
import fs, { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mock, test } from 'node:test'
import { TsnetError } from '../error.ts'
import { isOnDisk, makeFolder, readOwnFile, removeFile, replaceFile, requireOwn, requireOwnFolder } from './state-file.ts'

function folder() {
  const path = mkdtempSync(join(tmpdir(), 'tsnet-state-'))
  return { path, file: join(path, 'file'), [Symbol.dispose]: () => rmSync(path, { recursive: true }) }
}

function refused(act: () => unknown, message: RegExp, hint: RegExp): void {
  assert.throws(act, (error) => {
    assert.ok(error instanceof TsnetError && error.code === 'TSNET_STATE' && error.cniCode === 5, String(error))
    assert.match(error.message, message)
    assert.match(error.hint ?? '', hint)
    return true
  })
}

test('replaceFile() makes private files and folders, and readOwnFile() reads them', () => {
  using base = folder()
  const path = join(base.path, 'a/b/file')
  replaceFile(path, 'one')
  replaceFile(path, Buffer.from('zwei'))
  assert.equal(readOwnFile(path), 'zwei')
  assert.equal(statSync(path).mode & 0o777, 0o600)
  for (const made of ['a', 'a/b']) assert.equal(statSync(join(base.path, made)).mode & 0o777, 0o700)
  assert.equal(existsSync(`${path}.new`), false)
  removeFile(path)
  removeFile(path)
  assert.equal(readOwnFile(path), undefined)
  assert.equal(readOwnFile(join(base.path, 'none/file')), undefined)
})

for (const mode of [0o640, 0o604, 0o620, 0o644, 0o666, 0o660]) {
  test(`a file with mode ${mode.toString(8)} is refused with the command that puts it right`, () => {
    using base = folder()
    writeFileSync(base.file, 'x')
    chmodSync(base.file, mode)
    refused(
      () => readOwnFile(base.file),
      new RegExp(`^Cannot use ".*/file": it is open to other users \\(mode 0${mode.toString(8)}\\)$`),
      /^chmod 0600 ".*\/file"/,
    )
  })
}

test('a folder that is open to others is refused, and one of another user', () => {
  using base = folder()
  chmodSync(base.path, 0o755)
  refused(() => requireOwnFolder(base.path), /open to other users \(mode 0755\)$/, /^chmod 0700 "/)
  refused(() => requireOwn('/x', { uid: 4242, mode: 0o100600 }), /^Cannot use "\/x": it belongs to user 4242, not to user \d+$/, /chown \d+ "\/x"$/)
})

test('a symbolic link in the place of a file is refused', () => {
  using base = folder()
  symlinkSync('/etc/passwd', base.file)
  refused(() => readOwnFile(base.file), /^Cannot read ".*file"$/, /./)
  symlinkSync('/etc/passwd', `${base.file}.new`)
  refused(() => replaceFile(base.file, 'x'), /^Cannot write/, /./)
})

for (const [code, hint] of [
  ['ENOSPC', /free some space/],
  ['EDQUOT', /free some space/],
  ['EROFS', /read-only/],
  ['EACCES', /as root/],
  ['EIO', /messages of the kernel/],
] as const) {
  test(`replaceFile() that meets ${code} leaves the old content and nothing beside it`, (t) => {
    using base = folder()
    replaceFile(base.file, 'old')
    t.after(() => mock.restoreAll())
    mock.method(fs, 'writeSync', () => {
      throw Object.assign(new Error(`${code}: told by a test`), { code, syscall: 'write' })
    })
    refused(() => replaceFile(base.file, 'new'), /^Cannot write ".*file"$/, hint)
    mock.restoreAll()
    assert.equal(readFileSync(base.file, 'utf8'), 'old')
    assert.equal(existsSync(`${base.file}.new`), false)
  })
}

test('on a disk, a file is synced before its name counts, and the name after; in memory nothing is', (t) => {
  using base = folder()
  for (const [type, expected] of [
    [0xef53, ['write', 'fsync file.new', 'rename', 'fsync folder']],
    [0x01021994, ['write', 'rename']],
    [0x858458f6, ['write', 'rename']],
  ] as const) {
    const calls: string[] = []
    // The kind of a folder's file system is remembered.
    const file = join(base.path, String(type), 'file')
    mkdirSync(join(file, '..'))
    const { writeSync, renameSync } = fs
    t.after(() => mock.restoreAll())
    mock.method(fs, 'statfsSync', () => ({ type }))
    mock.method(fs, 'writeSync', (...args: Parameters<typeof writeSync>) => {
      calls.push('write')
      return writeSync(...args)
    })
    mock.method(fs, 'renameSync', (from: string, to: string) => {
      calls.push('rename')
      renameSync(from, to)
    })
    mock.method(fs, 'fsyncSync', (fd: number) => {
      const path = fs.readlinkSync(`/proc/self/fd/${fd}`)
      calls.push(path.endsWith('file.new') ? 'fsync file.new' : 'fsync folder')
    })
    replaceFile(file, 'x')
    mock.restoreAll()
    assert.deepEqual(calls, expected)
  }
})

test('isOnDisk() knows memory when it sees it', { skip: existsSync('/dev/shm') ? false : 'no /dev/shm' }, () => {
  assert.equal(isOnDisk('/dev/shm'), false)
  assert.equal(isOnDisk('/proc'), true)
})

test('makeFolder() says what is in its way', () => {
  using base = folder()
  writeFileSync(base.file, '')
  refused(() => makeFolder(join(base.file, 'sub')), /^Cannot make folder ".*file\/sub"$/, /./)
})
