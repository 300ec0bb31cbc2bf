import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { TsnetError } from '../error.ts'
import { parseCniArgs } from './cni-args.ts'

const refusal = (message: string) => (error: unknown) => error instanceof TsnetError && error.cniCode === 4 && error.message === message

test('parseCniArgs() reads the known keys', () => {
  assert.deepEqual(parseCniArgs(''), { others: new Map() })
  assert.deepEqual(parseCniArgs('IP=10.0.0.2;GATEWAY=10.0.0.1;MAC=02:00:00:00:00:01'), {
    ip: '10.0.0.2',
    gateway: '10.0.0.1',
    mac: '02:00:00:00:00:01',
    others: new Map(),
  })
  assert.deepEqual(parseCniArgs('IP=;MAC='), { others: new Map() })
  assert.equal(parseCniArgs('IP=10.0.0.2;IP=10.0.0.3').ip, '10.0.0.3')
})

test('parseCniArgs() takes unknown keys with IgnoreUnknown only, wherever it stands', () => {
  for (const yes of ['1', 'true', 'TRUE', 'True']) {
    assert.deepEqual(parseCniArgs(`K8S_POD_NAME=a;IgnoreUnknown=${yes}`).others, new Map([['K8S_POD_NAME', 'a']]))
  }
  for (const no of ['0', 'false', 'FALSE']) assert.throws(() => parseCniArgs(`IgnoreUnknown=${no};FOO=1`), refusal('ARGS: unknown args ["FOO=1"]'))
  assert.throws(() => parseCniArgs('FOO=1;ip=2'), refusal('ARGS: unknown args ["FOO=1" "ip=2"]'))
  assert.deepEqual(parseCniArgs('IgnoreUnknown=0;IP=10.0.0.2').ip, '10.0.0.2')
})

test('parseCniArgs() refuses what is no pair, and an IgnoreUnknown that is no truth value', () => {
  for (const pair of ['IP', 'IP=1=2', '']) assert.throws(() => parseCniArgs(`MAC=x;${pair}`), refusal(`ARGS: invalid pair "${pair}"`))
  assert.throws(() => parseCniArgs('MAC=x==;IP=1'), refusal('ARGS: invalid pair "MAC=x=="'))
  for (const value of ['yes', '', '2']) {
    assert.throws(
      () => parseCniArgs(`IgnoreUnknown=${value}`),
      refusal(`ARGS: error parsing value of pair "IgnoreUnknown=${value}": boolean unmarshal error`),
    )
  }
})

test('parseCniArgs() gives a value or a short TsnetError, whatever it reads', () => {
  const text = fc
    .array(fc.oneof(fc.constantFrom('IP=', 'IgnoreUnknown=', '1', ';', '='), fc.string({ unit: 'binary' })))
    .map((parts) => parts.join(''))
  fc.assert(
    fc.property(text, (args) => {
      try {
        parseCniArgs(args)
      } catch (error) {
        assert.ok(error instanceof TsnetError && error.message.length < 700)
      }
    }),
  )
})
