import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type CachedAttachment, listCached, readCached, removeCached, writeCached } from './result-cache.ts'

const OWNER = { network: 'web', containerID: 'c1', ifname: 'eth0' }
const CACHED: CachedAttachment = {
  ...OWNER,
  netns: '/run/netns/c1',
  config: '{"name":"web","plugins":[]}',
  args: [['K8S_POD_NAME', 'p']],
  capabilityArgs: { mac: '02:00:00:00:00:01' },
  result: { cniVersion: '1.0.0', ips: [] },
}

function cache(t: TestContext, files: Readonly<Record<string, string>> = {}): string {
  const path = mkdtempSync(join(tmpdir(), 'tsnet-cache-'))
  t.after(() => rmSync(path, { recursive: true }))
  mkdirSync(join(path, 'results'))
  for (const [name, text] of Object.entries(files)) writeFileSync(join(path, 'results', name), text)
  return path
}

test('writeCached() writes what libcni reads, for root alone, and readCached() reads it', (t) => {
  const path = cache(t)
  writeCached(path, CACHED)
  const file = join(path, 'results', 'web-c1-eth0')
  assert.deepEqual(JSON.parse(readFileSync(file, 'utf8')), {
    kind: 'cniCacheV1',
    containerId: 'c1',
    config: Buffer.from(CACHED.config ?? '').toString('base64'),
    ifName: 'eth0',
    networkName: 'web',
    netns: '/run/netns/c1',
    cniArgs: [['K8S_POD_NAME', 'p']],
    capabilityArgs: { mac: '02:00:00:00:00:01' },
    result: { cniVersion: '1.0.0', ips: [] },
  })
  assert.equal(statSync(file).mode & 0o777, 0o600)
  assert.deepEqual(readCached(path, OWNER), CACHED)
  removeCached(path, OWNER)
  removeCached(path, OWNER)
  assert.equal(readCached(path, OWNER), undefined)
  assert.deepEqual(readdirSync(join(path, 'results')), [])
})

test('writeCached() makes the folder', (t) => {
  const path = join(cache(t), 'deeper', 'cache')
  writeCached(path, CACHED)
  assert.deepEqual(readCached(path, OWNER)?.result, CACHED.result)
})

test('readCached() takes a bare result for one, as libcni wrote it before 0.7.1', (t) => {
  const path = cache(t, { 'web-c1-eth0': '{"cniVersion":"0.4.0","ips":[]}' })
  assert.deepEqual(readCached(path, OWNER), { ...OWNER, args: [], capabilityArgs: {}, result: { cniVersion: '0.4.0', ips: [] } })
})

test("readCached() does not take another attachment's file of the same name for its own", (t) => {
  const path = cache(t)
  writeCached(path, { ...CACHED, network: 'a-b', containerID: 'c' })
  assert.equal(readCached(path, { ...OWNER, network: 'a', containerID: 'b-c' }), undefined)
  assert.deepEqual(
    listCached(path, 'a', assert.fail).map(({ network }) => network),
    [],
  )
})

test('readCached() refuses what is no JSON object, listCached() passes over it', (t) => {
  const path = cache(t, { 'web-c1-eth0': 'x', 'web-c2-eth0': '[]', 'web-c3-eth0': '{}' })
  assert.throws(() => readCached(path, OWNER), { code: 'TSNET_CACHE', cniCode: 5 })
  writeCached(path, { ...CACHED, containerID: 'c4' })
  const problems: string[] = []
  assert.deepEqual(
    listCached(path, 'web', (problem) => problems.push(problem)).map(({ containerID }) => containerID),
    ['c4'],
  )
  assert.equal(problems.length, 2)
})

test('listCached() passes over a file whose names would lead elsewhere', (t) => {
  const document = { kind: 'cniCacheV1', networkName: 'web', containerId: '../../etc', ifName: 'passwd', result: {} }
  assert.deepEqual(listCached(cache(t, { 'web-x-eth0': JSON.stringify(document) }), 'web', assert.fail), [])
})
