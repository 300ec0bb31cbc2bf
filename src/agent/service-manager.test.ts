import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TsnetError } from '../error.ts'
import { handedDown } from './service-manager.ts'

test('handedDown() takes one socket that is meant for this process', () => {
  assert.equal(handedDown({}, 7), undefined)
  assert.equal(handedDown({ LISTEN_FDS: '1' }, 7), undefined)
  assert.equal(handedDown({ LISTEN_FDS: '1', LISTEN_PID: '8' }, 7), undefined)
  assert.equal(handedDown({ LISTEN_FDS: '1', LISTEN_PID: '7' }, 7), 3)
  for (const LISTEN_FDS of ['0', '2', 'x']) {
    assert.throws(
      () => handedDown({ LISTEN_FDS, LISTEN_PID: '7' }, 7),
      (error) => error instanceof TsnetError && error.code === 'TSNET_AGENT',
    )
  }
})
