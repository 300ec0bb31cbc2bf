/** Against bytes that `ip` and `conntrack` sent and the kernel answered (test/golden/capture.mjs): values, and the same bytes again. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { decodeAddress, encodeAddress } from './address.ts'
import type { ByteWriter } from './byte-writer.ts'
import { decodeConntrack, encodeConntrack, IPCTNL_MSG_CT_DELETE } from './conntrack.ts'
import { decodeFibRule, encodeFibRule, FR_ACT_TO_TBL } from './fib-rule.ts'
import { addressFromBytes, formatAddress } from './ip-address.ts'
import { decodeLink, encodeLink } from './link.ts'
import { decodeAck, decodeMessages, encodeMessage, type Message } from './netlink-message.ts'
import { decodeRoute, encodeRoute } from './route.ts'

interface Capture {
  readonly name: string
  readonly request: string
  readonly answer: string
}

const captures = ['rtnetlink', 'devices', 'conntrack'].flatMap(
  (file) => (JSON.parse(readFileSync(`test/golden/${file}.json`, 'utf8')) as { captures: readonly Capture[] }).captures,
)

function captured(name: string, side: 'request' | 'answer' = 'request'): Message {
  const capture = captures.find((entry) => entry.name === name)
  assert.ok(capture !== undefined, name)
  const [message] = decodeMessages(Buffer.from(capture[side], 'hex'))
  assert.ok(message !== undefined)
  return message
}

/** iproute2 does not set NLA_F_NESTED, which newer kernel interfaces demand: the same bytes but for that bit. */
function assertSameBytes(message: Message, body: (writer: ByteWriter) => void): void {
  const ours = encodeMessage({ type: message.type, flags: message.flags, sequence: message.sequence }, body).subarray(16)
  const padded = Buffer.concat([message.body, Buffer.alloc(-message.body.length & 3)])
  assert.equal(ours.length, padded.length)
  for (const [i, byte] of ours.entries()) assert.ok(byte === padded[i] || byte === ((padded[i] ?? 0) | 0x80), `byte ${i}`)
}

function sameLink(message: Message): ReturnType<typeof decodeLink> {
  const decoded = decodeLink(message.body)
  const { index, flags, change, ...link } = decoded
  assertSameBytes(message, (w) => encodeLink(w, { index, flags, change }, link))
  return decoded
}

test('link table reads and writes a bridge as ip does', () => {
  const link = sameLink(captured('createBridge'))
  assert.equal(link.ifname, 'br0')
  assert.equal(link.mtu, 1400)
  assert.deepEqual(link.address, Buffer.from('020000000001', 'hex'))
  assert.deepEqual(link.linkinfo, { kind: 'bridge', bridge: { stpState: 0 } })
})

test('link table reads and writes a veth with its peer as ip does', () => {
  const link = sameLink(captured('createVeth'))
  assert.equal(link.master, 2)
  assert.deepEqual(link.linkinfo?.veth?.peer, { mtu: 1400, address: Buffer.from('020000000002', 'hex'), ifname: 'eth0', flags: 0 })
})

test('link table reads and writes bridge port options as ip does', () => {
  // iproute2 names the kind "bridge_slave" where we name the port's; the kernel goes by the link's master. The data are the same.
  const data = captured('setBridgePort').body.subarray(-16)
  const ours = encodeMessage({ type: 16, flags: 0, sequence: 0 }, (w) =>
    encodeLink(w, { index: 4, flags: 0, change: 0 }, { linkinfo: { slaveKind: 'bridge', bridgePort: { hairpin: 1, isolated: 0 } } }),
  )
  assert.deepEqual(ours.subarray(-16), data)
})

test('link header carries flags and their mask', () => {
  const { index, flags, change } = sameLink(captured('setUp'))
  assert.deepEqual({ index, flags, change }, { index: 2, flags: 1, change: 1 })
})

for (const [name, linkinfo] of [
  ['createMacvlan', { kind: 'macvlan', macvlan: { mode: 2, broadcastQueueLength: 2000 } }],
  // ip adds IFLA_IPVLAN_FLAGS with nothing in it.
  ['createIpvlan', { kind: 'ipvlan', ipvlan: { mode: 2, flags: 0 } }],
  ['createVlan', { kind: 'vlan', vlan: { id: 7 } }],
  ['createDummy', { kind: 'dummy' }],
] as const) {
  test(`link table reads and writes ${name} as ip does`, () => {
    const link = sameLink(captured(name))
    assert.deepEqual(link.linkinfo, linkinfo)
    if (name !== 'createDummy') assert.deepEqual([typeof link.linkIndex, link.mtu], ['number', 1300])
  })
}

test('link table reads what the kernel says of a macvlan', () => {
  const { linkinfo, address } = decodeLink(captured('getMacvlan', 'answer').body)
  assert.deepEqual([linkinfo?.macvlan?.mode, linkinfo?.macvlan?.broadcastQueueLength], [2, 2000])
  assert.deepEqual(address, Buffer.from('020000000003', 'hex'))
})

test('link table reads and writes an alias as ip does', () => assert.equal(sameLink(captured('setAlias')).ifalias, 'web/c1:eth0'))

test('decodeLink() passes over what it does not know', () => {
  const decoded = decodeLink(captured('getPort', 'answer').body)
  assert.equal(decoded.ifname, 'v0')
  assert.equal(decoded.linkinfo?.kind, 'veth')
  assert.equal(decoded.linkinfo?.bridgePort?.hairpin, 1)
  const { index, flags, change, ...link } = decoded
  const bytes = encodeMessage({ type: 16, flags: 0, sequence: 0 }, (w) => encodeLink(w, { index, flags, change }, link)).subarray(16)
  assert.deepEqual(decodeLink(bytes), decoded)
})

for (const [name, family, length, text] of [
  ['addAddress4', 2, 22, '10.210.0.1'],
  ['addAddress6', 10, 64, 'fd00::1'],
] as const) {
  test(`address table reads and writes ${name} as ip does`, () => {
    const message = captured(name)
    const { family: f, prefixLength, flags, scope, index, ...address } = decodeAddress(message.body)
    assertSameBytes(message, (w) => encodeAddress(w, { family: f, prefixLength, flags, scope, index }, address))
    assert.deepEqual([f, prefixLength], [family, length])
    assert.equal(formatAddress(addressFromBytes(address.local ?? new Uint8Array())), text)
  })
}

for (const [name, gateway] of [
  ['addRoute4', '10.210.0.2'],
  ['addRoute6', 'fd00::2'],
  ['addRouteMetrics', '10.210.0.2'],
] as const) {
  test(`route table reads and writes ${name} as ip does`, () => {
    const message = captured(name)
    const route = decodeRoute(message.body)
    assert.equal(formatAddress(addressFromBytes(route.attributes.gateway ?? new Uint8Array())), gateway)
    assertSameBytes(message, (w) => encodeRoute(w, route, route.attributes))
    if (name === 'addRouteMetrics') assert.deepEqual([route.table, route.attributes.metrics], [1000, { mtu: 1300, advmss: 1200 }])
  })
}

for (const [name, family, number, ends] of [
  ['getTracked4', 2, 17, ['10.99.0.2', '10.99.0.1', '10.50.0.2', '10.99.0.2']],
  ['getTracked6', 10, 6, ['fd00:99::2', 'fd00:99::1', 'fd00:50::2', 'fd00:99::2']],
] as const) {
  test(`conntrack table reads and writes a connection as the kernel tells it: ${name}`, () => {
    const { body } = captured(name, 'answer')
    const { original, reply, id, ...connection } = decodeConntrack(body)
    assert.deepEqual([connection.family, original?.protocol?.number, original?.protocol?.sourcePort, id?.length], [family, number, 40_000, 4])
    const tuples = { ...(original && { original }), ...(reply && { reply }) }
    const ours = encodeMessage({ type: 0, flags: 0, sequence: 0 }, (w) => encodeConntrack(w, family, tuples)).subarray(16)
    assert.deepEqual(ours, body.subarray(0, ours.length))
    const bytes = [original?.ip, reply?.ip].flatMap((ip) => [ip?.v4Source ?? ip?.v6Source, ip?.v4Destination ?? ip?.v6Destination])
    const texts = bytes.map((address) => formatAddress(addressFromBytes(address ?? new Uint8Array())))
    assert.deepEqual(texts, ends)
  })
}

test('decodeConntrack() refuses what is short', () => assert.throws(() => decodeConntrack(Buffer.alloc(3)), /Conntrack message is short/))

test('a deletion names the connection as conntrack does', () => {
  const message = captured('forget4')
  assert.equal(message.type, IPCTNL_MSG_CT_DELETE)
  const { family, original } = decodeConntrack(message.body)
  const ours = encodeMessage({ type: message.type, flags: 0, sequence: 0 }, (w) => encodeConntrack(w, family, { ...(original && { original }) }))
  // What follows the tuple in conntrack's request the kernel does not look at.
  assert.deepEqual(ours.subarray(16), message.body.subarray(0, ours.length - 16))
})

for (const [name, family, sourceLength, source, table] of [
  ['addRule4', 2, 32, '10.210.0.2', 47000003],
  ['addRule6', 10, 128, 'fd00::2', 47000003],
  ['addRuleShort', 2, 22, '10.210.0.0', 100],
  ['deleteRule4', 2, 32, '10.210.0.2', 47000003],
] as const) {
  test(`policy rule table reads and writes ${name} as ip does`, () => {
    const message = captured(name)
    const rule = decodeFibRule(message.body)
    assert.deepEqual([rule.family, rule.sourceLength, rule.table], [family, sourceLength, table])
    if (name !== 'deleteRule4') assert.equal(rule.action, FR_ACT_TO_TBL)
    assert.equal(formatAddress(addressFromBytes(rule.attributes.source ?? new Uint8Array())), source)
    if (table > 255) assert.deepEqual([rule.attributes.priority, rule.attributes.protocol], [32000, 116])
    assertSameBytes(message, (w) => encodeFibRule(w, rule, rule.attributes))
  })
}

test('decodeAck() reads success and refusal', () => {
  assert.deepEqual(decodeAck(captured('createBridge', 'answer')), { errno: 0, text: undefined })
  assert.equal(decodeAck(captured('refused', 'answer')).errno, 17)
})

test('decodeAck() reads the extended ack of a refusal', () => {
  const ack = decodeAck(captured('refusedWithText', 'answer'))
  assert.deepEqual(ack, { errno: 101, text: 'Nexthop has invalid gateway' })
})

test('decodeMessages() refuses what is short, each with its own message', () => {
  const whole = Buffer.from(captures[0]?.request ?? '', 'hex')
  assert.throws(() => [...decodeMessages(whole.subarray(0, 10))], /header is short/)
  assert.throws(() => [...decodeMessages(whole.subarray(0, 40))], /message is short/)
  assert.throws(() => decodeLink(whole.subarray(16, 24)), /Link message is short/)
  assert.throws(() => decodeFibRule(whole.subarray(16, 24)), /Policy rule message is short/)
  const zero = Buffer.from(whole)
  zero.writeUInt32LE(3)
  assert.throws(() => [...decodeMessages(zero)], /smaller than its header/)
})
