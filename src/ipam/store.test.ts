import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { TsnetError } from '../error.ts'
import { formatAddress, type IpAddress, parseAddress } from '../wire/ip-address.ts'
import { leaseOwner } from './lease.ts'
import { openExistingSubnet, openSubnet, readHead } from './open-subnet.ts'
import { formatRangeSet } from './range.ts'
import type { SubnetStore } from './store.ts'
import { parseRangeSets } from './subnet.ts'

const owner = (n: number | string) => leaseOwner(`c${n}`, 'eth0')
const ip = (text: string) => parseAddress(text) as IpAddress

function fixture(ipam: Record<string, unknown>) {
  const base = mkdtempSync(join(tmpdir(), 'tsnet-ipam-'))
  const folder = join(base, 'networks', 'web')
  const open = (other: Record<string, unknown> = ipam) => openSubnet({ folder, network: 'web', rangeSets: parseRangeSets(other) })
  return { folder, path: join(folder, 'subnet'), open, [Symbol.dispose]: () => rmSync(base, { recursive: true }) }
}

const take = (store: SubnetStore, n: number | string, requested?: string) =>
  formatAddress(store.acquire(owner(n), 0, requested === undefined ? undefined : ip(requested)).address)
const texts = (addresses: readonly IpAddress[]) => addresses.map(formatAddress)

function throwsCode(run: () => unknown, code: string, cniCode: number, message: RegExp): void {
  assert.throws(run, (error: unknown) => {
    assert.ok(error instanceof TsnetError, String(error))
    assert.deepEqual([error.code, error.cniCode], [code, cniCode])
    assert.match(error.message, message)
    return true
  })
}

test('acquire() hands out never-used addresses first, then the one released longest ago', () => {
  using f = fixture({ subnet: '10.0.0.0/29' })
  using store = f.open()
  assert.deepEqual(
    [1, 2, 3].map((n) => take(store, n)),
    ['10.0.0.2', '10.0.0.3', '10.0.0.4'],
  )
  assert.equal(store.release(owner(2), ip('10.0.0.3')), true)
  assert.equal(store.release(owner(1), ip('10.0.0.2')), true)
  assert.deepEqual(
    [4, 5, 6, 7].map((n) => take(store, n)),
    ['10.0.0.5', '10.0.0.6', '10.0.0.3', '10.0.0.2'],
  )
  throwsCode(() => take(store, 8), 'TSNET_POOL_FULL', 11, /in network "web": all of 10\.0\.0\.2-10\.0\.0\.6 are taken/)
})

test('acquire() gives prefix length and gateway, one address from each set', () => {
  using f = fixture({ subnet: '10.0.0.0/24', gateway: '10.0.0.254', ranges: [[{ subnet: 'fd00::/64' }]] })
  using store = f.open()
  const v4 = store.acquire(owner(1), 0)
  const v6 = store.acquire(owner(1), 1)
  assert.deepEqual([formatAddress(v4.address), v4.prefixLength, formatAddress(v4.gateway)], ['10.0.0.1', 24, '10.0.0.254'])
  assert.deepEqual([formatAddress(v6.address), v6.prefixLength, formatAddress(v6.gateway)], ['fd00::2', 64, 'fd00::1'])
  assert.deepEqual(texts(store.leasesOf(owner(1))), ['10.0.0.1', 'fd00::2'])
  assert.throws(() => store.acquire(owner(1), 2), RangeError)
})

test('acquire() gives a requested address, and says who holds it or why not', () => {
  using f = fixture({ subnet: '10.0.0.0/24', exclude: ['10.0.0.16/28'] })
  using store = f.open()
  assert.equal(take(store, 1, '10.0.0.3'), '10.0.0.3')
  throwsCode(() => take(store, 2, '10.0.0.3'), 'TSNET_ADDRESS_TAKEN', 102, /Cannot lease 10\.0\.0\.3 in network "web": "c1:eth0" holds it/)
  throwsCode(() => take(store, 2, '10.0.0.1'), 'TSNET_REQUESTED_ADDRESS', 7, /10\.0\.0\.1: it is the gateway/)
  throwsCode(() => take(store, 2, '10.0.0.20'), 'TSNET_REQUESTED_ADDRESS', 7, /10\.0\.0\.16-10\.0\.0\.31 is excluded/)
  throwsCode(() => take(store, 2, '10.0.1.3'), 'TSNET_REQUESTED_ADDRESS', 7, /it is not in 10\.0\.0\.2-10\.0\.0\.254/)
  throwsCode(() => take(store, 2, 'fd00::3'), 'TSNET_REQUESTED_ADDRESS', 7, /it is not in/)
  assert.deepEqual(
    [2, 3].map((n) => take(store, n)),
    ['10.0.0.2', '10.0.0.4'],
  )
})

test('acquire() jumps over an exclusion of any size', () => {
  using f = fixture({ subnet: 'fd00::/64', exclude: ['fd00::3-fd00::ffff:ffff:ffff:fff0'] })
  using store = f.open()
  assert.deepEqual(
    [1, 2].map((n) => take(store, n)),
    ['fd00::2', 'fd00::ffff:ffff:ffff:fff1'],
  )
})

test('acquire() leases a requested address far beyond the table', () => {
  using f = fixture({ subnet: 'fd00::/64' })
  const far = 'fd00::dead:beef:0:1'
  {
    using store = f.open()
    assert.equal(take(store, 1, far), far)
  }
  using store = f.open()
  throwsCode(() => take(store, 2, far), 'TSNET_ADDRESS_TAKEN', 102, /c1:eth0/)
  assert.equal(store.release(owner(1), ip(far)), true)
  assert.equal(take(store, 2, far), far)
})

test('release() leaves what another holds', () => {
  using f = fixture({ subnet: '10.0.0.0/24' })
  using store = f.open()
  take(store, 1)
  assert.equal(store.release(owner(2), ip('10.0.0.2')), false)
  assert.equal(store.release(owner(1), ip('10.0.0.3')), false)
  assert.equal(store.release(owner(1), ip('10.9.9.9')), false)
  assert.deepEqual(texts(store.leasesOf(owner(1))), ['10.0.0.2'])
  assert.equal(store.release(owner(1), ip('10.0.0.2')), true)
  assert.equal(store.release(owner(1), ip('10.0.0.2')), false)
})

test('releaseAll() finds exactly the leases of its owner', () => {
  using f = fixture({ subnet: '10.0.0.0/24' })
  using store = f.open()
  for (const n of ['a', 'ab', 'a', 'b']) take(store, n)
  assert.deepEqual(texts(store.releaseAll(owner('a'))), ['10.0.0.2', '10.0.0.4'])
  assert.deepEqual(store.releaseAll(owner('a')), [])
  assert.deepEqual(
    store.leases().map((held) => `${formatAddress(held.address)} ${held.owner}`),
    ['10.0.0.3 cab:eth0', '10.0.0.5 cb:eth0'],
  )
})

test('a changed configuration keeps the leases, inside the new ranges or not', () => {
  using f = fixture({ subnet: '10.0.0.0/24' })
  {
    using store = f.open()
    for (const n of [1, 2, 3]) take(store, n)
  }
  const inode = statSync(f.path).ino
  {
    using store = f.open({ subnet: '10.0.0.0/24', rangeStart: '10.0.0.3' })
    assert.notEqual(statSync(f.path).ino, inode)
    assert.equal(take(store, 4), '10.0.0.5')
    assert.equal(store.release(owner(1), ip('10.0.0.2')), true)
    assert.equal(store.release(owner(2), ip('10.0.0.3')), true)
  }
  using store = f.open()
  assert.deepEqual(texts(store.leases().map((held) => held.address)), ['10.0.0.4', '10.0.0.5'])
  assert.equal(take(store, 5, '10.0.0.2'), '10.0.0.2')
})

test('sets of one call stay in the head while they are in use, and do not make the others write it anew', () => {
  using f = fixture({ subnet: '10.0.0.0/24' })
  using first = f.open()
  take(first, 1)
  {
    using store = f.open({ subnet: '10.7.0.0/24' })
    assert.equal(take(store, 2), '10.7.0.2')
  }
  const inode = statSync(f.path).ino
  {
    using store = f.open()
    assert.equal(take(store, 3), '10.0.0.3')
  }
  assert.equal(statSync(f.path).ino, inode)
  assert.deepEqual(readHead(f.folder)?.rangeSets.map(formatRangeSet), ['10.7.0.2-10.7.0.254', '10.0.0.2-10.0.0.254'])
})

test('readHead() and openExistingSubnet() make nothing', () => {
  using f = fixture({ subnet: '10.0.0.0/24' })
  assert.equal(readHead(f.folder), undefined)
  assert.equal(openExistingSubnet(f.folder), undefined)
  assert.throws(() => statSync(f.folder), /ENOENT/)
})

test('an edit that leaves lines of any length is taken in and put in line', () => {
  using f = fixture({ subnet: '10.0.0.0/24' })
  {
    using store = f.open()
    for (const n of [1, 2]) take(store, n)
  }
  const edited = readFileSync(f.path, 'latin1')
    .replace(/ +\n/g, '\n')
    .replace('10.0.0.2 leased c1:eth0', '# a note\n\n10.0.0.9 leased hand:eth0\n10.0.0.2 free 7')
  writeFileSync(f.path, edited)
  {
    using store = f.open()
    assert.deepEqual(
      store.leases().map((held) => `${formatAddress(held.address)} ${held.owner}`),
      ['10.0.0.9 hand:eth0', '10.0.0.3 c2:eth0'],
    )
    assert.equal((readFileSync(f.path).length - 4096) % 128, 0)
  }
  using store = f.open()
  assert.deepEqual(
    [3, 4, 5, 6, 7, 8].map((n) => take(store, n)),
    ['10.0.0.4', '10.0.0.5', '10.0.0.6', '10.0.0.7', '10.0.0.8', '10.0.0.10'],
  )
})

test('a file that is not of the format is refused by name and line, and left alone', () => {
  using f = fixture({ subnet: '10.0.0.0/24' })
  {
    using store = f.open()
    for (const n of [1, 2]) take(store, n)
  }
  const good = readFileSync(f.path, 'latin1')
  const cases: readonly (readonly [string, RegExp])[] = [
    [good.replace('10.0.0.3 leased', '10.0.0.3 rented'), /line 7 of subnet file ".*subnet": "10\.0\.0\.3 rented c2:eth0" is not/],
    [good.replace('10.0.0.3 leased', '10.0.0.2 leased'), /line 7 of .*: 10\.0\.0\.2 stands in line 6 already/],
    [good.replace('10.0.0.3 leased', '10.0.0.333 leased'), /line 7 of/],
    [good.replace('range ', 'reach '), /line 4 of .* does not belong into the head/],
    [good.replace('format 1', 'format 2'), /line 1 of .* not the title/],
    [good.replace('gateway 10.0.0.1', 'gateway 10.0'), /line 4 of .* a range is written/],
    ['', /line 1 of .* not the title/],
  ]
  for (const [text, message] of cases) {
    // An edit within the same clock tick as the last change, of the same length: only a test is that fast.
    rmSync(join(f.folder, 'index'), { recursive: true, force: true })
    writeFileSync(f.path, text, 'latin1')
    throwsCode(() => f.open(), 'TSNET_SUBNET_FILE', 5, message)
    assert.equal(readFileSync(f.path, 'latin1'), text)
  }
  writeFileSync(f.path, good.replace('network web', 'network wob'))
  throwsCode(() => f.open(), 'TSNET_SUBNET_FILE', 5, /is of network "wob", not of "web"/)
})

test('a last line that a full disk cut short is left out', () => {
  using f = fixture({ subnet: '10.0.0.0/24' })
  {
    using store = f.open()
    for (const n of [1, 2]) take(store, n)
  }
  truncateSync(f.path, 4096 + 128 + 15)
  using store = f.open()
  assert.deepEqual(texts(store.leases().map((held) => held.address)), ['10.0.0.2'])
  assert.equal(take(store, 3), '10.0.0.3')
})

test('a symbolic link in the place of the file is refused; files and folders are private', () => {
  using f = fixture({ subnet: '10.0.0.0/24' })
  {
    using store = f.open()
    take(store, 1)
  }
  for (const name of ['.', 'index']) assert.equal(statSync(join(f.folder, name)).mode & 0o777, 0o700)
  for (const name of ['subnet', ...readdirSync(join(f.folder, 'index')).map((file) => `index/${file}`)])
    assert.equal(statSync(join(f.folder, name)).mode & 0o777, 0o600)
  rmSync(f.path)
  symlinkSync('/etc/passwd', f.path)
  throwsCode(() => f.open(), 'TSNET_SUBNET_FILE', 5, /Cannot open subnet file/)
})

test('range sets that overlap are refused', () => {
  using f = fixture({ subnet: '10.0.0.0/24' })
  const sets = [...parseRangeSets({ subnet: '10.0.0.0/24' }), ...parseRangeSets({ subnet: '10.0.0.0/25' })]
  throwsCode(() => openSubnet({ folder: f.folder, network: 'web', rangeSets: sets }), 'TSNET_SUBNET', 7, /overlap/)
})

test('leaseOwner() shortens what is too long without a collision, and refuses what may not stand in a line', () => {
  assert.equal(leaseOwner('a'.repeat(64), 'i'.repeat(15)).length, 80)
  const [one, two] = [leaseOwner('a'.repeat(80), 'eth0'), leaseOwner('a'.repeat(81), 'eth0')]
  assert.match(one, /^a{63}~[0-9a-f]{16}$/)
  assert.notEqual(one, two)
  assert.match(leaseOwner('a', 'ethé'), /^a:eth_~[0-9a-f]{16}$/)
  for (const [id, ifname] of [
    ['a b', 'eth0'],
    ['../a', 'eth0'],
    ['', 'eth0'],
    ['a\n', 'eth0'],
    ['a', ''],
    ['a', 'e/0'],
    ['a', 'e 0'],
    ['a', 'e\n'],
    ['a', 'i'.repeat(16)],
  ] as const) {
    throwsCode(() => leaseOwner(id, ifname), 'TSNET_OWNER', 4, /Container ID|Interface name/)
  }
})
