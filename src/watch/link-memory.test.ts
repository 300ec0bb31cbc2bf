import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ByteWriter } from '../wire/byte-writer.ts'
import { encodeLink, type Link, RTM_DELLINK, RTM_NEWLINK } from '../wire/link.ts'
import { LinkMemory } from './link-memory.ts'

const AF_BRIDGE = 7

function message(link: Link, { type = RTM_NEWLINK, flags = 1, family = 0 } = {}) {
  const writer = new ByteWriter()
  encodeLink(writer, { index: 5, flags, change: 0 }, link)
  const body = Buffer.from(writer.view())
  body[0] = family
  return { type, flags: 0, sequence: 0, portId: 0, body }
}

test('LinkMemory takes for news what a repair cares for, once', () => {
  const memory = new LinkMemory()
  const port: Link = { ifname: 'tsn1', master: 4, protinfo: { hairpin: 1, state: 1 } }
  const changes = [
    message(port),
    message(port, { flags: 0 }),
    message({ ...port, master: 0 }),
    message({ ...port, ifname: 'tsn2' }),
    message({ ...port, address: new Uint8Array([2, 0, 0, 0, 0, 1]) }),
    message({ ...port, protinfo: { hairpin: 0, state: 1 } }),
    message(port, { family: AF_BRIDGE }),
  ]
  for (const change of changes) {
    assert.equal(memory.isNews(change), true)
    assert.equal(memory.isNews(change), false)
  }
  assert.equal(memory.isNews(message({ ...port, mtu: 1400, protinfo: { hairpin: 1, state: 3 } }, { family: AF_BRIDGE })), false)
})

test('LinkMemory takes every deletion for news, and forgets the link', () => {
  const memory = new LinkMemory()
  memory.isNews(message({ ifname: 'tsn1' }))
  assert.equal(memory.isNews(message({ ifname: 'tsn1' }, { type: RTM_DELLINK })), true)
  assert.equal(memory.isNews(message({ ifname: 'tsn1' })), true)
})
