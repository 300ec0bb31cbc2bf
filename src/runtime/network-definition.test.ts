import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { TsnetError } from '../error.ts'
import { findDefinition, networkNames } from './network-definition.ts'

const definition = (name: string, ...types: readonly string[]) =>
  JSON.stringify({ cniVersion: '1.0.0', name, plugins: types.map((type) => ({ type })) })

function folder(t: TestContext, files: Readonly<Record<string, string>>): string {
  const path = mkdtempSync(join(tmpdir(), 'tsnet-definition-'))
  t.after(() => rmSync(path, { recursive: true }))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(path, name, '..'), { recursive: true })
    writeFileSync(join(path, name), text)
  }
  return path
}

function refusal(act: () => unknown): TsnetError {
  try {
    act()
  } catch (error) {
    if (error instanceof TsnetError) return error
    throw error
  }
  throw new Error('It did not refuse')
}

test('findDefinition() has "tsnet" built in', () => {
  const { list, plugin, path } = findDefinition('tsnet', '/nonexistent')
  assert.equal(path, undefined)
  assert.equal(list.cniVersion, '1.1.0')
  assert.deepEqual(plugin, { type: 'tsnet', capabilities: { portMappings: true, ips: true, mac: true, ipRanges: true } })
})

test('findDefinition() prefers lists to single plugins, and the first by name, as libcni does', (t) => {
  const path = folder(t, {
    '00-a.conf': JSON.stringify({ cniVersion: '1.0.0', name: 'a', type: 'tsnet' }),
    '20-a.conflist': definition('a', 'tsnet'),
    '10-b.conflist': definition('a', 'tsnet'),
    '99-tsnet.json': JSON.stringify({ cniVersion: '0.4.0', name: 'tsnet', type: 'tsnet', mtu: 1400 }),
    'README.txt': 'not a definition',
  })
  assert.equal(findDefinition('a', path).path, join(path, '10-b.conflist'))
  assert.equal(findDefinition('tsnet', path).plugin['mtu'], 1400)
  assert.deepEqual(networkNames(path), ['tsnet', 'a'])
})

test('findDefinition() declares capabilities that the definition leaves open', (t) => {
  const capabilities = { portMappings: false, bandwidth: true }
  const path = folder(t, { 'a.conflist': JSON.stringify({ cniVersion: '1.0.0', name: 'a', plugins: [{ type: 'tsnet', capabilities }] }) })
  assert.deepEqual(findDefinition('a', path).plugin['capabilities'], { portMappings: false, bandwidth: true, ips: true, mac: true, ipRanges: true })
})

test('findDefinition() refuses an unknown network with the known names and a definition to write', (t) => {
  const { code, message, hint = '' } = refusal(() => findDefinition('back', folder(t, { 'a.conflist': definition('a', 'tsnet') })))
  assert.equal(code, 'TSNET_NO_NETWORK')
  assert.match(message, /^Cannot find the network "back"/)
  assert.match(hint, /Known are tsnet, a;/)
  const sample = JSON.parse(/\{.*\}/.exec(hint)?.[0] ?? '')
  const written = folder(t, { 'back.conflist': JSON.stringify(sample) })
  assert.equal(findDefinition('back', written).list.name, 'back')
})

test('findDefinition() refuses a chain of plugins and names the others', (t) => {
  const path = folder(t, { 'a.conflist': definition('a', 'tsnet', 'portmap', 'firewall'), 'b.conflist': definition('b', 'bridge') })
  assert.match(refusal(() => findDefinition('a', path)).message, /also runs portmap, firewall$/)
  assert.match(refusal(() => findDefinition('b', path)).message, /runs bridge$/)
})

test('findDefinition() refuses a network whose folder adds plugins', (t) => {
  const path = folder(t, { 'a.conflist': definition('a', 'tsnet'), 'a/10-tuning.conf': '{"type":"tuning"}' })
  assert.match(refusal(() => findDefinition('a', path)).message, /also runs tuning$/)
})

test("findDefinition() passes over other networks' broken files", (t) => {
  const path = folder(t, { '00-broken.conflist': '{', '01-empty.conf': '', '02-list.json': '[]', 'a.conflist': definition('a', 'tsnet') })
  assert.equal(findDefinition('a', path).list.name, 'a')
  assert.equal(findDefinition('tsnet', path).path, undefined)
  assert.match(refusal(() => findDefinition('b', path)).message, /cannot read .*00-broken\.conflist, .*01-empty\.conf/)
})

test('findDefinition() says what is wrong with a broken file that is, or may be, the wanted one', (t) => {
  const path = folder(t, {
    '10-tsnet.conflist': '{ "name": "tsnet", }',
    'a.conflist': '{"name":"a","plugins":[]}',
    'b.conflist': '{"cniVersion":"9.0.0","name":"b","plugins":[{"type":"tsnet"}]}',
  })
  for (const name of ['tsnet', 'a', 'b']) {
    const { code, message } = refusal(() => findDefinition(name, path))
    assert.equal(code, 'TSNET_DEFINITION')
    assert.match(message, /^Cannot use the network definition ".*\.conflist": /)
  }
})
