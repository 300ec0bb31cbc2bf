/** Against frames that udhcpc and dnsmasq sent each other (test/golden/capture-dhcp.mjs). */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { decodeFrame, encodeFrame } from './frame.ts'
import { readLease } from './lease.ts'
import { BOOTREPLY, BOOTREQUEST, decodeMessage, encodeMessage, MESSAGE } from './message.ts'

interface Capture {
  readonly name: string
  readonly frame: string
}

const { captures } = JSON.parse(readFileSync('test/golden/dhcp.json', 'utf8')) as { readonly captures: readonly Capture[] }

function captured(name: string): Buffer {
  const capture = captures.find((entry) => entry.name === name)
  assert.ok(capture !== undefined, name)
  return Buffer.from(capture.frame, 'hex')
}

function messageOf(name: string) {
  return decodeMessage(Buffer.from(decodeFrame(captured(name)).payload))
}

test("udhcpc's frames are read, and written again with the same bytes", () => {
  for (const name of ['discover', 'request']) {
    const frame = decodeFrame(captured(name))
    assert.deepEqual([frame.source, frame.sourcePort, frame.destination, frame.destinationPort], ['0.0.0.0', 68, '255.255.255.255', 67])
    assert.deepEqual(encodeFrame(frame), captured(name))
    const message = decodeMessage(Buffer.from(frame.payload))
    assert.deepEqual([message.op, message.options.messageType], [BOOTREQUEST, MESSAGE[name as 'discover']])
    assert.equal(message.options.hostName, 'web')
    assert.deepEqual(Buffer.from(message.options.clientID ?? []), Buffer.from('006332', 'hex'))
    assert.deepEqual(encodeMessage(message), Buffer.from(frame.payload))
  }
})

test("dnsmasq's answers are read whole, though its host left the checksum to a network card", () => {
  const sum = (name: string) => captured(name).readUInt16BE(14 + 20 + 6)
  for (const name of ['offer', 'ack']) {
    const frame = decodeFrame(captured(name))
    assert.notEqual(sum(name), encodeFrame(frame).readUInt16BE(14 + 20 + 6), 'else this test shows nothing')
    const message = messageOf(name)
    assert.deepEqual([message.op, message.yiaddr, message.options.serverID], [BOOTREPLY, '10.9.0.10', '10.9.0.1'])
    assert.deepEqual(decodeMessage(encodeMessage(message)), message)
  }
})

test('readLease() takes from a confirmation what a container needs', () => {
  assert.deepEqual(readLease({ message: messageOf('ack'), from: '020000000001' }, 1000), {
    address: '10.9.0.10',
    prefixLength: 24,
    server: '10.9.0.1',
    serverMac: '020000000001',
    routers: ['10.9.0.1', '10.9.0.2'],
    staticRoutes: [{ destination: '10.0.0.0/8', gateway: '10.9.0.3' }],
    classlessRoutes: [
      { destination: '10.7.0.0/16', gateway: '10.9.0.4' },
      { destination: '0.0.0.0/0', gateway: '10.9.0.1' },
      { destination: '10.8.0.0/24', gateway: '0.0.0.0' },
    ],
    nameservers: ['10.9.0.1', '9.9.9.9'],
    domain: 'lan.example',
    search: ['a.example', 'b.example'],
    mtu: 1400,
    renewAt: 1000 + 300_000,
    rebindAt: 1000 + 525_000,
    expireAt: 1000 + 600_000,
  })
})
