import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { recordedLeases } from './address-book.ts'
import { type AttachmentRecord, listOwners, readRecord, recordedAddresses, writeRecord } from './record.ts'
import { recordPath } from './state-folder.ts'

const RECORD: AttachmentRecord = {
  format: 1,
  state: 'attached',
  network: 'net',
  containerID: 'c1',
  ifname: 'eth0',
  netns: { path: '/run/netns/c1', inode: 4026532000 },
  bootId: '924e2f07-cdb7-4fad-a314-db165d6c0000',
  created: '2026-01-01T00:00:00.000Z',
  bridge: 'tsnet0',
  hostVeth: 'tsn0123456789ab',
  hairpin: false,
  mtu: 1500,
  mac: '02:00:00:00:00:01',
  hostMac: '02:00:00:00:00:02',
  bridgeMac: '02:00:00:00:00:03',
  addresses: [{ address: '10.50.0.2/24', gateway: '10.50.0.1' }, { address: 'fd00:50::2/64' }],
  routes: [{ dst: '0.0.0.0/0', gw: '10.50.0.1' }],
  ports: [{ protocol: 'tcp', hostPort: 8080, count: 1, address: '10.50.0.2', containerPort: 80, allow: ['192.0.2.0/24'] }],
  table: 47000002,
}

function fixture() {
  const root = mkdtempSync(join(tmpdir(), 'tsnet-record-'))
  const state = { root }
  writeRecord(state, RECORD)
  const path = recordPath(state, RECORD)
  return { state, path, good: readFileSync(path, 'utf8'), [Symbol.dispose]: () => rmSync(root, { recursive: true }) }
}

test('readRecord() gives back what writeRecord() wrote', () => {
  using f = fixture()
  assert.deepEqual(readRecord(f.state, RECORD), RECORD)
  assert.deepEqual(
    recordedLeases(f.state, 'net').map(({ owner }) => owner),
    ['c1:eth0', 'c1:eth0'],
  )
})

test('a record that is cut short at any byte counts as none, and its attachment is known by its name', () => {
  using f = fixture()
  for (let length = 0; length < f.good.trimEnd().length; length++) {
    writeFileSync(f.path, f.good.slice(0, length))
    assert.equal(readRecord(f.state, RECORD), undefined, `cut after ${length} bytes`)
  }
  assert.deepEqual(listOwners(f.state, 'net'), [{ network: 'net', containerID: 'c1', ifname: 'eth0' }])
})

const HARM: Readonly<Record<string, object>> = {
  'another network': { network: 'other' },
  'another container': { containerID: 'c2' },
  'addresses that are none': { addresses: [{ address: '10.50.0.x/24' }] },
  'no addresses': { addresses: undefined },
  'null for an address': { addresses: [null] },
  'a gateway that is none': { addresses: [{ address: '10.50.0.2/24', gateway: 1 }] },
  'a port without an address': { ports: [{ protocol: 'tcp', hostPort: 80, count: 1, containerPort: 80 }] },
  'a port without a number': { ports: [{ protocol: 'tcp', hostPort: '80', count: 1, address: '10.0.0.2', containerPort: 80 }] },
  'a leaving port that is none': { leaving: [{}] },
  'no namespace': { netns: null },
  'an inode that is no number': { netns: { path: '/x', inode: '1' } },
  'no boot id': { bootId: 1 },
  'another format': { format: 2 },
  'another state': { state: 'lost' },
  'routes that are none': { routes: [1] },
}

for (const [what, harm] of Object.entries(HARM)) {
  test(`a record with ${what} counts as none`, () => {
    using f = fixture()
    writeFileSync(f.path, JSON.stringify({ ...RECORD, ...harm }))
    assert.equal(readRecord(f.state, RECORD), undefined)
  })
}

test('a record with garbage anywhere is none, or one that everything can be done with', () => {
  using f = fixture()
  fc.assert(
    fc.property(fc.nat(f.good.length), fc.nat(20), fc.string({ unit: 'binary', maxLength: 20 }), (at, remove, insert) => {
      writeFileSync(f.path, f.good.slice(0, at) + insert + f.good.slice(at + remove))
      const record = readRecord(f.state, RECORD)
      if (record === undefined) return
      assert.equal(`${record.network}/${record.containerID}:${record.ifname}`, 'net/c1:eth0')
      assert.equal(recordedAddresses(record).length, record.addresses.length)
    }),
    { numRuns: Number(process.env['TSNET_TEST_RUNS'] ?? 1000) },
  )
})
