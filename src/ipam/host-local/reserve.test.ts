import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { TsnetError } from '../../error.ts'
import { lockFile } from '../../sys/lock.ts'
import type { NetnsIdentity } from '../../sys/netns-identity.ts'
import { identifyNetns } from '../../sys/netns-identity.ts'
import { formatAddress, parseAddress } from '../../wire/ip-address.ts'
import type { Purpose } from './holder-index.ts'
import { parseHostLocalSets } from './range-sets.ts'
import { releaseVanished } from './release-vanished.ts'
import { ReservationStore } from './reservation-store.ts'
import { reserveAddresses } from './reserve.ts'

const SETS = parseHostLocalSets([[{ subnet: '10.0.0.0/29' }], [{ subnet: 'fd00::/64' }]])
const LIVING = identifyNetns(`/proc/${process.pid}/ns/net`) as NetnsIdentity
const FORMER_BOOT: Purpose = { netns: { ...LIVING, bootId: 'another' } }
const GONE: Purpose = { netns: { ...LIVING, path: '/run/netns/none', inode: 1 } }
/** The kernel has given the number to another one meanwhile. */
const REPLACED: Purpose = { netns: { ...LIVING, cookie: '0', since: '0' } }

/** Each call opens and locks the folder anew, as processes do. */
class Network {
  readonly dataDir: string
  readonly folder: string
  sets = SETS

  constructor(t: TestContext) {
    this.dataDir = mkdtempSync(join(tmpdir(), 'host-local-'))
    this.folder = join(this.dataDir, 'net')
    t.after(() => rmSync(this.dataDir, { recursive: true }))
  }

  open<T>(act: (store: ReservationStore) => T): T {
    using store = ReservationStore.open({ dataDir: this.dataDir, network: 'net' }, 1000)
    return act(store)
  }

  add(containerID: string, purpose: Purpose = { netns: LIVING }, requested: readonly string[] = []): readonly string[] {
    const request = {
      holder: { containerID, ifname: 'eth0' },
      purpose,
      sets: this.sets,
      requested: requested.flatMap((text) => parseAddress(text) ?? []),
    }
    return this.open((store) => reserveAddresses(store, request)).map(({ address }) => formatAddress(address))
  }

  refusal(...args: Parameters<Network['add']>): TsnetError {
    const before = this.files()
    try {
      this.add(...args)
    } catch (error) {
      assert.ok(error instanceof TsnetError, String(error))
      assert.deepEqual(this.files(), before, 'nothing is changed')
      return error
    }
    return assert.fail('it is accepted')
  }

  held(containerID: string, ifname = 'eth0'): readonly string[] {
    return this.open((store) => store.heldBy({ containerID, ifname })).map(({ address }) => address)
  }

  del(containerID: string): void {
    this.open((store) => store.release(store.heldBy({ containerID, ifname: 'eth0' })))
  }

  /** As the reference plugin does it. */
  foreign(address: string, content: string): void {
    writeFileSync(join(this.folder, address), content)
  }

  link(name: string, target: string): void {
    symlinkSync(target, join(this.folder, name))
  }

  files(): readonly string[] {
    return readdirSync(this.folder).sort()
  }
}

test('reserveAddresses() writes the files of the reference plugin', (t) => {
  const net = new Network(t)
  assert.deepEqual(net.add('a'), ['10.0.0.2', 'fd00::2'])
  assert.deepEqual(net.add('b'), ['10.0.0.3', 'fd00::3'])
  net.del('b')
  assert.deepEqual(net.add('c'), ['10.0.0.4', 'fd00::4'], 'the next one, not the first free one')
  assert.deepEqual(net.files(), ['10.0.0.2', '10.0.0.4', 'fd00::2', 'fd00::4', 'last_reserved_ip.0', 'last_reserved_ip.1', 'lock'])
  const text = (name: string) => readFileSync(join(net.folder, name), 'utf8')
  assert.deepEqual(['10.0.0.2', 'fd00::4', 'last_reserved_ip.0', 'last_reserved_ip.1', 'lock'].map(text), [
    'a\r\neth0',
    'c\r\neth0',
    '10.0.0.4',
    'fd00::4',
    '',
  ])
})

test('reserveAddresses() gives requested addresses, and says what is wrong with one in the words of the reference plugin', (t) => {
  const net = new Network(t)
  assert.deepEqual(net.add('a', {}, ['fd00::9', '10.0.0.5']), ['10.0.0.5', 'fd00::9'])
  const refused = (address: string) => {
    const { message, cniCode } = net.refusal('b', {}, [address])
    return [cniCode, message]
  }
  assert.deepEqual(refused('10.0.0.5'), [
    102,
    'failed to allocate for range 0: requested IP address 10.0.0.5 is not available in range set 10.0.0.1-10.0.0.6',
  ])
  assert.deepEqual(refused('10.0.0.1'), [7, "failed to allocate for range 0: requested ip 10.0.0.1 is subnet's gateway"])
  assert.deepEqual(refused('192.0.2.1'), [7, 'failed to allocate all requested IPs: 192.0.2.1'])
})

test('reserveAddresses() refuses a second address for an interface whose namespace still exists, whoever reserved the first', (t) => {
  const net = new Network(t)
  net.add('a')
  net.foreign('10.0.0.3', 'b\r\neth0')
  net.foreign('10.0.0.4', 'old')
  for (const [id, address] of [
    ['a', '10.0.0.2'],
    ['b', '10.0.0.3'],
    ['old', '10.0.0.4'],
  ] as const) {
    const { message, cniCode } = net.refusal(id)
    assert.deepEqual(
      [cniCode, message],
      [102, `failed to allocate for range 0: ${address} has been allocated to ${id}, duplicate allocation is not allowed`],
    )
  }
})

test('reserveAddresses() takes over what the same interface had before its namespace vanished, and the same request gets the same', (t) => {
  for (const purpose of [FORMER_BOOT, GONE, REPLACED, { netns: LIVING, request: 'r' }]) {
    const net = new Network(t)
    const first = net.add('a', purpose)
    net.add('b')
    assert.deepEqual(net.add('a', { netns: LIVING, request: 'r' }), first)
    assert.match(net.refusal('a').message, /duplicate/)
    assert.equal(net.held('a').length, 2)
  }
  const net = new Network(t)
  net.add('a', GONE)
  assert.deepEqual(net.add('a', {}, ['10.0.0.6']), ['10.0.0.6', 'fd00::2'])
  assert.deepEqual(net.held('a').toSorted(), ['10.0.0.6', 'fd00::2'])
  assert.ok(!existsSync(join(net.folder, '10.0.0.2')))
})

test('reserveAddresses() does not believe that a namespace is gone where it could not see it', (t) => {
  const net = new Network(t)
  net.add('a', { netns: { ...(GONE.netns as NetnsIdentity), view: 'of another' } })
  assert.match(net.refusal('a').message, /duplicate/)
  net.add('b', {})
  assert.match(net.refusal('b').message, /duplicate/)
})

test('reserveAddresses() reclaims what vanished before it says that a pool is exhausted, with code 11', (t) => {
  const net = new Network(t)
  for (const id of ['a', 'b', 'c']) net.add(id)
  net.add('gone', GONE)
  net.foreign('10.0.0.6', 'foreign\r\neth0')
  assert.deepEqual(net.add('d'), ['10.0.0.5', 'fd00::6'])
  const { cniCode, code, message } = net.refusal('e')
  assert.deepEqual(
    [cniCode, code, message],
    [11, 'TSNET_POOL_FULL', 'failed to allocate for range 0: no IP addresses available in range set: 10.0.0.1-10.0.0.6'],
  )
  net.sets = SETS.toReversed()
  assert.match(net.refusal('e').message, /range 1/)
})

test('an index that another program has made stale is made anew, and what tsnet knew of its own reservations stays', (t) => {
  const net = new Network(t)
  net.add('a', GONE)
  net.foreign('10.0.0.3', 'b\r\neth0\n')
  assert.deepEqual(net.held('b'), ['10.0.0.3'])
  assert.deepEqual(
    net.open((store) => store.vanished()).map(({ containerID }) => containerID),
    ['a', 'a'],
  )
  rmSync(join(net.folder, '10.0.0.2'))
  net.foreign('10.0.0.2', 'a\r\neth0')
  assert.deepEqual(
    net.open((store) => store.vanished()).map(({ address }) => address),
    ['fd00::2'],
    'a new file is not what tsnet wrote',
  )
})

test('what another program has reserved is over when it was seen in a former boot, unless the file is another one now', (t) => {
  const net = new Network(t)
  net.add('a', {})
  for (const [name, id] of [
    ['10.0.0.4', 'b'],
    ['10.0.0.5', 'c'],
  ] as const)
    net.foreign(name, `${id}\r\neth0`)
  assert.deepEqual(
    net.open((store) => store.vanished()),
    [],
  )
  const index = join(net.dataDir, '.tsnet/net')
  for (const name of readdirSync(index)) {
    const path = join(index, name)
    writeFileSync(path, readFileSync(path, 'utf8').replaceAll(LIVING.bootId, 'another'))
  }
  rmSync(join(net.folder, '10.0.0.5'))
  net.foreign('10.0.0.5', 'c\r\neth0')
  assert.deepEqual(net.open((store) => store.vanished().map(({ address }) => address)).toSorted(), ['10.0.0.2', '10.0.0.4', 'fd00::2'])
  assert.deepEqual(net.add('b'), ['10.0.0.4', 'fd00::3'])
  assert.match(net.refusal('c').message, /duplicate/)
})

test('a file that is edited in place loses its holder', (t) => {
  const net = new Network(t)
  net.add('a')
  net.foreign('10.0.0.2', 'b\r\neth0')
  assert.deepEqual(net.held('a'), ['fd00::2'])
  assert.deepEqual(net.held('b'), ['10.0.0.2'])
})

test('an empty file is reclaimed when it is old, and not before', (t) => {
  const net = new Network(t)
  net.add('a')
  net.foreign('10.0.0.3', '')
  net.foreign('10.0.0.4', ' \n')
  assert.deepEqual(net.add('b'), ['10.0.0.5', 'fd00::3'])
  const past = Date.now() / 1000 - 60
  for (const name of ['10.0.0.3', '10.0.0.4']) utimesSync(join(net.folder, name), past, past)
  net.add('c')
  assert.deepEqual(
    net.files().filter((name) => name.startsWith('10.')),
    ['10.0.0.2', '10.0.0.5', '10.0.0.6'],
  )
})

test("what a killed process has left of a reservation stands in nobody's way", (t) => {
  const net = new Network(t)
  net.add('a')
  writeFileSync(join(net.folder, '.tsnet-draft'), 'x\r\neth0')
  assert.deepEqual(net.add('b'), ['10.0.0.3', 'fd00::3'])
  assert.ok(!net.files().includes('.tsnet-draft'))
})

test("a symbolic link in the folder is nobody's reservation, and is not followed", (t) => {
  const net = new Network(t)
  net.add('a')
  writeFileSync(join(net.dataDir, 'elsewhere'), 'b\r\neth0')
  rmSync(join(net.folder, 'last_reserved_ip.0'))
  const links = { '10.0.0.3': 'elsewhere', '.tsnet-draft': 'elsewhere' }
  for (const [name, target] of Object.entries(links)) net.link(name, join(net.dataDir, target))
  assert.deepEqual(net.held('b'), [])
  assert.deepEqual(net.add('c'), ['10.0.0.4', 'fd00::3'])
  assert.equal(readFileSync(join(net.dataDir, 'elsewhere'), 'utf8'), 'b\r\neth0')
})

test('releaseVanished() gives back what namespaces that are gone had, in every network, and nothing else', (t) => {
  const net = new Network(t)
  assert.deepEqual(releaseVanished({ dataDir: net.dataDir, timeoutMs: 1000 }), [])
  net.add('a', FORMER_BOOT)
  net.add('b')
  net.foreign('10.0.0.6', 'c\r\neth0')
  const other = { holder: { containerID: 'd', ifname: 'eth1' }, purpose: GONE, sets: SETS, requested: [] }
  {
    using store = ReservationStore.open({ dataDir: net.dataDir, network: 'other' }, 1000)
    reserveAddresses(store, other)
  }
  assert.deepEqual(releaseVanished({ dataDir: net.dataDir, network: 'other', timeoutMs: 1000 }), [
    { network: 'other', address: '10.0.0.2', containerID: 'd', ifname: 'eth1' },
    { network: 'other', address: 'fd00::2', containerID: 'd', ifname: 'eth1' },
  ])
  rmSync(join(net.dataDir, 'other'), { recursive: true })
  const addresses = () => releaseVanished({ dataDir: net.dataDir, timeoutMs: 1000 }).map(({ address, containerID }) => `${address} ${containerID}`)
  assert.deepEqual(addresses(), ['10.0.0.2 a', 'fd00::2 a'])
  assert.deepEqual(addresses(), [])
  assert.deepEqual(readdirSync(join(net.dataDir, '.tsnet')), ['net'])
  assert.deepEqual(net.held('b').length, 2)
  assert.deepEqual(net.held('c'), ['10.0.0.6'])
  const lock = lockFile(join(net.folder, 'lock'))
  assert.throws(() => releaseVanished({ dataDir: net.dataDir, timeoutMs: 1 }), { code: 'TSNET_SEVERAL' })
  lock[Symbol.dispose]()
})
