import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AF_INET, AF_INET6 } from '../wire/address.ts'
import { type ConntrackSelector, deleteSelected } from './conntrack.ts'
import type { NetlinkSocket } from './socket.ts'

test('deleteSelected() refuses, before it sends anything, what some kernel would take for other connections', () => {
  const unused = {} as NetlinkSocket
  const v4Source = Uint8Array.of(10, 50, 0, 2)
  const refused: readonly ConntrackSelector[] = [
    { family: AF_INET },
    { family: AF_INET, original: { ip: { v4Source, v4Destination: v4Source } } },
    { family: AF_INET6, original: { ip: { v6Source: new Uint8Array(16) } } },
    { family: 0, reply: { ip: { v4Source } } },
  ]
  for (const selector of refused) assert.throws(() => deleteSelected(unused, selector), RangeError)
})
