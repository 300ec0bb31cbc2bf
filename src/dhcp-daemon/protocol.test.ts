import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { TsnetError } from '../error.ts'
import { formatRequest, parseRequest, type Request } from './protocol.ts'

const owner = { network: 'lan', containerID: 'c1', ifname: 'eth0' }
const wishes = { clientID: Buffer.from('00', 'hex'), request: [1, 121], provide: [{ code: 12, payload: Buffer.from('web') }] }
const acquire: Request = { command: 'acquire', owner, netns: { path: '/run/netns/a', inode: 4026531840 }, wishes }

test('requests come back as they went', () => {
  const requests: readonly Request[] = [
    acquire,
    { command: 'release', owner },
    { command: 'check', owner },
    { command: 'collect', network: 'lan', valid: [{ containerID: 'c1', ifname: 'eth0' }] },
    { command: 'collect', network: 'lan', valid: [] },
    { command: 'status' },
  ]
  for (const request of requests) assert.deepEqual(parseRequest(JSON.parse(JSON.stringify(formatRequest(request)))), request)
})

test('parseRequest() refuses names that lead elsewhere, and everything half', () => {
  const json = formatRequest(acquire)
  for (const change of [
    { command: 'shutdown' },
    { network: '../x' },
    { containerID: 'a/b' },
    { ifname: 'a/b' },
    { ifname: undefined },
    { netns: { path: 'run/netns/a', inode: 1 } },
    { netns: { path: '/a\0b', inode: 1 } },
    { netns: { path: '/a', inode: -1 } },
    { netns: { path: '/a' } },
    { clientID: 'zz' },
    { clientID: '0' },
    { clientID: '00'.repeat(256) },
    { request: [0] },
    { request: [1.5] },
    { request: 'all' },
    { provide: [{ code: 12 }] },
    { provide: [{ code: 255, value: '00' }] },
    { provide: Array.from({ length: 65 }, () => ({ code: 1, value: '00' })) },
  ]) {
    assert.throws(() => parseRequest({ ...json, ...change }), TsnetError, JSON.stringify(change).slice(0, 80))
  }
  assert.throws(() => parseRequest({ command: 'collect', network: 'lan' }), /lists no attachments/)
  for (const nothing of [null, [], 'x', 1, {}]) assert.throws(() => parseRequest(nothing), TsnetError)
})

test('whatever a peer says is a request or a refusal', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (json) => {
      try {
        parseRequest(json)
      } catch (error) {
        assert.ok(error instanceof TsnetError, String(error))
      }
    }),
  )
})
