import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { parseConflist } from '../cni/conflist.ts'
import { completeList, findInFolder } from './definition-folder.ts'

const LIST = { cniVersion: '1.0.0', name: 'web', plugins: [{ type: 'bridge' }] }

function folder(t: TestContext, files: Readonly<Record<string, unknown>>): string {
  const path = mkdtempSync(join(tmpdir(), 'tsnet-definitions-'))
  t.after(() => rmSync(path, { recursive: true }))
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(path, name, '..'), { recursive: true })
    writeFileSync(join(path, name), typeof content === 'string' ? content : JSON.stringify(content))
  }
  return path
}

const typesIn = (text: string) => parseConflist(text).plugins.map(({ type }) => type)

test("findInFolder() appends the plugins of the network's own folder, in the order of their names", (t) => {
  const more = { 'web/20-tuning.conf': { type: 'tuning' }, 'web/10-portmap.conf': { type: 'portmap' }, 'web/README': 'no', 'web/a.conflist': '{' }
  const path = folder(t, { 'web.conflist': LIST, ...more })
  const found = findInFolder('web', path)
  assert.deepEqual(
    found?.list.plugins.map(({ type }) => type),
    ['bridge', 'portmap', 'tuning'],
  )
  // What is remembered must not depend on the folder any more, nor get its plugins twice.
  assert.deepEqual(typesIn(completeList(found?.text ?? '', path)), ['bridge', 'portmap', 'tuning'])
})

test('findInFolder() takes a list whose plugins are all in the folder', (t) => {
  const path = folder(t, { 'web.conflist': { cniVersion: '1.0.0', name: 'web' }, 'web/1.conf': { type: 'bridge' } })
  assert.deepEqual(
    findInFolder('web', path)?.list.plugins.map(({ type }) => type),
    ['bridge'],
  )
})

test('findInFolder() leaves the folder alone where the list says so, or is a single plugin', (t) => {
  const only = folder(t, { 'web.conflist': { ...LIST, loadOnlyInlinedPlugins: 'TRUE' }, 'web/1.conf': { type: 'tuning' } })
  assert.deepEqual(typesIn(findInFolder('web', only)?.text ?? ''), ['bridge'])
  const single = folder(t, { 'web.conf': { cniVersion: '0.4.0', name: 'web', type: 'ptp' }, 'web/1.conf': { type: 'tuning' } })
  assert.deepEqual(JSON.parse(findInFolder('web', single)?.text ?? ''), {
    cniVersion: '0.4.0',
    name: 'web',
    plugins: [{ cniVersion: '0.4.0', name: 'web', type: 'ptp' }],
  })
})

test('findInFolder() names the file that is broken', (t) => {
  const path = folder(t, { 'web.conflist': LIST, 'web/1.conf': '{' })
  assert.throws(() => findInFolder('web', path), { code: 'TSNET_DEFINITION', message: /web\/1\.conf/ })
  assert.equal(findInFolder('other', path), undefined)
})

test('findInFolder() looks into no folder but the one of the name', (t) => {
  const path = folder(t, { 'x.conflist': { ...LIST, name: '../web' }, 'web/1.conf': { type: 'tuning' } })
  assert.throws(() => findInFolder('../web', join(path, 'web', '..')), { code: 'TSNET_DEFINITION', message: /invalid characters/ })
})
