import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type LeaseRecord, readLeases, removeLease, writeLease } from './lease-file.ts'

const RECORD: LeaseRecord = {
  owner: { network: 'lan', containerID: 'c1', ifname: 'eth0' },
  netns: { path: '/run/netns/c1', inode: 4026532000 },
  wishes: { clientID: Buffer.from('00', 'hex'), request: [1, 3], provide: [{ code: 12, payload: Buffer.from('web') }] },
  lease: {
    address: '10.0.0.9',
    prefixLength: 24,
    server: '10.0.0.1',
    serverMac: '020000000001',
    routers: ['10.0.0.1'],
    staticRoutes: [],
    nameservers: [],
    search: [],
    renewAt: 1,
    rebindAt: 2,
    expireAt: 3,
  },
  linkMtu: 1500,
}

function withFolder(act: (root: string) => void): void {
  const root = mkdtempSync(join(tmpdir(), 'tsnet-leases-'))
  try {
    act(root)
  } finally {
    rmSync(root, { recursive: true })
  }
}

test('leases come back as they went, for root alone, and leave no folder behind', () => {
  withFolder((root) => {
    const lost = { ...RECORD, owner: { ...RECORD.owner, ifname: 'eth1' }, withdrawn: { address: 'AAAA', routes: [] } }
    for (const record of [RECORD, lost]) writeLease({ root }, record)
    assert.deepEqual(
      readLeases({ root }, () => assert.fail()),
      [RECORD, lost],
    )
    assert.equal(statSync(join(root, 'dhcp/lan/c1:eth0.json')).mode & 0o777, 0o600)
    for (const { owner } of [RECORD, lost, lost]) removeLease({ root }, owner)
    assert.deepEqual(readdirSync(join(root, 'dhcp')), [])
  })
})

test('readLeases() removes what is of another boot, and warns of what it cannot read', () => {
  withFolder((root) => {
    writeLease({ root }, RECORD)
    const path = join(root, 'dhcp/lan/c1:eth0.json')
    const text = readFileSync(path, 'utf8')
    const warned: string[] = []
    const texts = [
      text.replace(/"bootId":"[^"]*"/, '"bootId":"another"'),
      text.replace('"10.0.0.9"', '"10.0.0"'),
      text.replace('"renewAt":1', '"renewAt":"1"'),
      text.replace('"c1"', '"../c1"'),
      text.replace('"format":1', '"format":2'),
      text.slice(0, 100),
      '',
      'null',
    ]
    for (const broken of texts) {
      assert.notEqual(broken, text)
      writeFileSync(path, broken, { mode: 0o600 })
      assert.deepEqual(
        readLeases({ root }, (found) => warned.push(found)),
        [],
      )
      assert.deepEqual(readdirSync(join(root, 'dhcp/lan')), [])
    }
    assert.equal(warned.length, texts.length - 1)
  })
})
