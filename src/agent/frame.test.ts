import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { TsnetError } from '../error.ts'
import { decodeHeader, decodeRequest, differenceOf, encodeFrame, encodeResponse, HEADER_SIZE, type Identity, KIND } from './frame.ts'

const field = (text: string | Buffer) => {
  const bytes = Buffer.from(text)
  const length = Buffer.alloc(4)
  length.writeUInt32LE(bytes.length)
  return Buffer.concat([length, bytes])
}
const request = (...fields: readonly string[]) => Buffer.concat([Buffer.alloc(32, 1), ...fields.map(field)])
const isProtocolError = (error: unknown) => error instanceof TsnetError && error.code === 'TSNET_PROTOCOL'

test('encodeFrame() and decodeHeader() are mirror images', () => {
  fc.assert(
    fc.property(fc.nat(0xffff), fc.uint8Array(), (kind, payload) => {
      const frame = encodeFrame(kind, payload)
      assert.deepEqual(decodeHeader(frame.subarray(0, HEADER_SIZE)), { kind, size: payload.length })
    }),
  )
})

test('decodeHeader() refuses another magic and another version of the protocol', () => {
  const frame = encodeFrame(KIND.started)
  for (const at of [0, 3, 4, 5]) {
    const wrong = Buffer.from(frame)
    wrong[at] = 9
    assert.throws(() => decodeHeader(wrong), isProtocolError)
  }
})

test('decodeRequest() takes the parts of a request, and of a variable that is there twice the first', () => {
  const payload = request(
    'build',
    '/run/tsnet',
    '',
    'token',
    'tsnet',
    'CNI_COMMAND=ADD\0CNI_ARGS=A=B;C=D\0CNI_COMMAND=DEL\0=x\0y\0__proto__=z\0',
    '{"a":"ü"}',
  )
  const { caller, token, entry, env, input } = decodeRequest(payload)
  assert.equal(caller.network.inode, 0x0101010101010101n)
  assert.deepEqual([caller.build, caller.stateFolder, token, entry, input], ['build', '/run/tsnet', 'token', 'tsnet', '{"a":"ü"}'])
  assert.deepEqual({ ...env }, { CNI_COMMAND: 'ADD', CNI_ARGS: 'A=B;C=D', ['__proto__']: 'z' })
})

test('decodeRequest() refuses whatever is cut off, and bears anything', () => {
  const whole = request('b', 's', '', 't', 'e', 'v', 'i')
  for (let length = 0; length < whole.length; length++) assert.throws(() => decodeRequest(whole.subarray(0, length)), isProtocolError)
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        decodeRequest(Buffer.from(bytes))
      } catch (error) {
        assert.ok(isProtocolError(error))
      }
    }),
  )
})

test('encodeResponse() writes status and two fields', () => {
  const frame = encodeResponse({ status: 1, output: '{"ü":1}', problems: '' })
  assert.equal(frame.subarray(HEADER_SIZE).toString('latin1'), `\u0001\0\0\0${field('{"ü":1}').toString('latin1')}\0\0\0\0`)
})

test('differenceOf() names the first thing in which two programs differ', () => {
  const id = { device: 4n, inode: 5n }
  const own: Identity = { network: id, mount: id, build: 'b', stateFolder: '/s', sysctlFolder: '' }
  assert.equal(differenceOf(own, { ...own }), undefined)
  assert.equal(differenceOf(own, { ...own, build: 'c' }), 'build')
  assert.equal(differenceOf(own, { ...own, stateFolder: '/s/' }), 'state folder')
  assert.equal(differenceOf(own, { ...own, sysctlFolder: '/x' }), 'folder for kernel parameters')
  assert.equal(differenceOf(own, { ...own, network: { ...id, inode: 6n } }), 'network namespace')
  assert.equal(differenceOf(own, { ...own, mount: { ...id, device: 6n } }), 'mount namespace')
})
