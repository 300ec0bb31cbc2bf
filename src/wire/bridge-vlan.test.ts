/** Against bytes that `bridge vlan` sent (test/golden/capture.mjs); what the kernel answers, `make test-vm` shows. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { decodePortVlans, encodePortVlans, type PortVlan, RTM_SETLINK } from './bridge-vlan.ts'
import { RTM_DELLINK } from './link.ts'
import { decodeMessages, encodeMessage } from './netlink-message.ts'

interface Capture {
  readonly name: string
  readonly request: string
}

const { captures } = JSON.parse(readFileSync('test/golden/bridge-vlan.json', 'utf8')) as { captures: readonly Capture[] }

for (const [name, type, vlan] of [
  ['addNativeVlan', RTM_SETLINK, { first: 100, last: 100, pvid: true, untagged: true }],
  ['addTaggedVlan', RTM_SETLINK, { first: 101, last: 101, pvid: false, untagged: false }],
  ['addVlanRange', RTM_SETLINK, { first: 200, last: 299, pvid: false, untagged: false }],
  ['deleteVlan', RTM_DELLINK, { first: 1, last: 1, pvid: false, untagged: false }],
] as const) {
  test(`encodePortVlans() and decodePortVlans() write and read ${name} as bridge does`, () => {
    const [message] = decodeMessages(Buffer.from(captures.find((capture) => capture.name === name)?.request ?? '', 'hex'))
    assert.ok(message !== undefined)
    assert.equal(message.type, type)
    const decoded = decodePortVlans(message.body)
    assert.deepEqual(decoded.vlans, [vlan])
    const ours = bodyOf(decoded.index, decoded.vlans)
    // iproute2 leaves NLA_F_NESTED away.
    assert.equal(ours.length, message.body.length)
    for (const [i, byte] of ours.entries()) assert.ok(byte === message.body[i] || byte === ((message.body[i] ?? 0) | 0x80), `byte ${i}`)
  })
}

test('decodePortVlans() reads whatever encodePortVlans() writes', () => {
  const vlan = fc
    .record({ first: fc.integer({ min: 1, max: 4094 }), more: fc.integer({ min: 0, max: 100 }), pvid: fc.boolean(), untagged: fc.boolean() })
    .map(({ first, more, pvid, untagged }): PortVlan => ({ first, last: Math.min(first + more, 4094), pvid, untagged }))
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1 << 30 }), fc.array(vlan, { maxLength: 20 }), (index, vlans) => {
      assert.deepEqual(decodePortVlans(bodyOf(index, vlans)), { index, vlans })
    }),
  )
})

test('decodePortVlans() refuses what is short', () => {
  assert.throws(() => decodePortVlans(Buffer.alloc(15)), /Bridge port message is short/)
  const cut = bodyOf(1, [{ first: 1, last: 1, pvid: false, untagged: false }])
  cut.writeUInt16LE(6, 20)
  assert.throws(() => decodePortVlans(cut.subarray(0, 26)), RangeError)
})

function bodyOf(index: number, vlans: readonly PortVlan[]): Buffer {
  return Buffer.from(encodeMessage({ type: RTM_SETLINK, flags: 0, sequence: 0 }, (writer) => encodePortVlans(writer, index, vlans)).subarray(16))
}
