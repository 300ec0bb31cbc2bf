import assert from 'node:assert/strict'
import fs, { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mock, test } from 'node:test'
import { parseAddress } from '../../wire/ip-address.ts'
import { parseHostLocalSets } from './range-sets.ts'
import { ReservationStore } from './reservation-store.ts'
import { reserveAddresses } from './reserve.ts'

const SETS = parseHostLocalSets([[{ subnet: '10.0.0.0/29' }], [{ subnet: 'fd00::/64' }]])

class Killed extends Error {}

/** From the `at`th change of the disk on, nothing reaches it any more. @param torn Whether half of what is written then still arrives. */
function killAt(at: number, torn: boolean) {
  let changes = 0
  const change = <T>(real: () => T, half?: () => void): T => {
    changes++
    if (changes === at && torn) half?.()
    if (changes >= at) throw new Killed()
    return real()
  }
  const { linkSync, unlinkSync, renameSync, rmSync: remove, mkdirSync, utimesSync, writeFileSync: write } = fs
  mock.method(fs, 'linkSync', (from: string, to: string) => change(() => linkSync(from, to)))
  mock.method(fs, 'unlinkSync', (path: string) => change(() => unlinkSync(path)))
  mock.method(fs, 'renameSync', (from: string, to: string) => change(() => renameSync(from, to)))
  mock.method(fs, 'rmSync', (path: string, how: object) => change(() => remove(path, how)))
  mock.method(fs, 'mkdirSync', (path: string, how: object) => change(() => mkdirSync(path, how)))
  mock.method(fs, 'utimesSync', (path: string, a: number, m: number) => change(() => utimesSync(path, a, m)))
  mock.method(fs, 'writeFileSync', (path: string, text: string, how: object) =>
    change(
      () => write(path, text, how),
      () => write(path, text.slice(0, text.length / 2), how),
    ),
  )
  return { isDead: () => changes >= at, [Symbol.dispose]: () => mock.restoreAll() }
}

type Call = (store: ReservationStore) => void
const add =
  (containerID: string, ifname = 'eth0'): Call =>
  (store) =>
    void reserveAddresses(store, { holder: { containerID, ifname }, purpose: {}, sets: SETS, requested: [] })
const del =
  (containerID: string): Call =>
  (store) =>
    void store.release(store.heldBy({ containerID, ifname: 'eth0' }))

/** @returns Who has what, by the files alone. */
function byFiles(folder: string): readonly string[] {
  const names = readdirSync(folder).filter((name) => parseAddress(name) !== undefined)
  return names.map((name) => `${name} ${readFileSync(join(folder, name), 'utf8').replace('\r\n', ' ')}`).sort()
}

function survive(call: Call, torn: boolean): number {
  for (let at = 1; ; at++) {
    const dataDir = mkdtempSync(join(tmpdir(), 'host-local-crash-'))
    const folder = join(dataDir, 'net')
    const open = (act: Call) => {
      using store = ReservationStore.open({ dataDir, network: 'net' }, 1000)
      act(store)
    }
    try {
      for (const id of ['a', 'b']) open(add(id))
      // The reference plugin comes between, so that a call begins with an index that is stale.
      if (at % 2 === 0) writeFileSync(join(folder, '10.0.0.4'), 'foreign\r\neth0')
      let dead = false
      {
        using kill = killAt(at, torn)
        try {
          open(call)
        } catch (error) {
          assert.ok(error instanceof Killed || kill.isDead(), String(error))
        }
        dead = kill.isDead()
      }
      const files = byFiles(folder)
      assert.ok(
        files.every((line) => /^\S+ (a|b|c|foreign) eth0$/.test(line)),
        `half a reservation: ${files}`,
      )
      open((store) => {
        const indexed = store.all().map(({ address, containerID, ifname }) => `${address} ${containerID} ${ifname}`)
        assert.deepEqual(indexed.toSorted(), files, 'the index is not what the files say')
      })
      for (const id of ['a', 'b', 'c', 'foreign']) open(del(id))
      assert.deepEqual(byFiles(folder), [], 'something is never given back')
      if (!dead) return at
    } finally {
      rmSync(dataDir, { recursive: true })
    }
  }
}

for (const torn of [false, true]) {
  test(`a process killed at any change of the disk${torn ? ', in the middle of it,' : ''} leaves no half reservation and an index that knows of each`, () => {
    for (const call of [add('c'), del('a')]) assert.ok(survive(call, torn) > 5)
  })
}

test('a full disk refuses a reservation wholly, and keeps none from being given back', () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'host-local-full-'))
  const folder = join(dataDir, 'net')
  const open = (act: Call) => {
    using store = ReservationStore.open({ dataDir, network: 'net' }, 1000)
    act(store)
  }
  try {
    for (const id of ['a', 'b']) open(add(id))
    writeFileSync(join(folder, '10.0.0.4'), 'foreign\r\neth0')
    const before = byFiles(folder)
    const { writeFileSync: write } = fs
    mock.method(fs, 'writeFileSync', (path: string, text: string, how: object) => {
      write(path, text.slice(0, 0), how)
      throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' })
    })
    assert.throws(() => open(add('c')), { code: 'ENOSPC' })
    assert.deepEqual(byFiles(folder), before)
    for (const id of ['a', 'foreign']) open(del(id))
    assert.deepEqual(byFiles(folder), ['10.0.0.3 b eth0', 'fd00::3 b eth0'])
    mock.restoreAll()
    open(del('b'))
    assert.deepEqual(byFiles(folder), [])
    open(add('c'))
  } finally {
    mock.restoreAll()
    rmSync(dataDir, { recursive: true })
  }
})
