import assert from 'node:assert/strict'
import fs, { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mock, test } from 'node:test'
import { formatAddress, type IpAddress } from '../wire/ip-address.ts'
import { leaseOwner } from './lease.ts'
import { LeaseFile } from './lease-file.ts'
import { openSubnet } from './open-subnet.ts'
import { addressOfSlot, type Range } from './range.ts'
import type { SubnetStore } from './store.ts'
import { parseRangeSets } from './subnet.ts'

const owner = (n: number) => leaseOwner(`${String(n).padStart(12, '0')}${'ab'.repeat(26)}`, 'eth0')

const sizes = [10, 60_000]
const rangeSets = parseRangeSets({ subnet: '10.0.0.0/15', exclude: ['10.0.0.100-10.0.0.200'] })
const range = rangeSets[0]?.[0] as Range
const at = (slot: number): IpAddress => addressOfSlot(range, BigInt(slot))

/** A network with this many leases, two of which were released, its index in place. */
function network(base: string, leases: number, open: (folder: string) => SubnetStore): string {
  const folder = join(base, String(leases))
  mkdirSync(folder)
  const lines = Array.from({ length: leases }, (_, n) => ({ kind: 'leased' as const, address: formatAddress(at(n)), owner: owner(n) }))
  LeaseFile.replace(join(folder, 'subnet'), { network: 'web', rangeSets }, lines)
  using store = open(folder)
  for (const n of [leases - 1, 3]) assert.equal(store.release(owner(n), at(n)), true)
  return folder
}

/** Every call into the file system while `run` works, with its bytes. */
function traced(run: () => void): readonly string[] {
  const calls: string[] = []
  for (const name of [
    'openSync',
    'closeSync',
    'readSync',
    'writeSync',
    'fstatSync',
    'statSync',
    'readdirSync',
    'renameSync',
    'unlinkSync',
    'mkdirSync',
    'readFileSync',
    'writeFileSync',
    'ftruncateSync',
  ] as const) {
    const real = fs[name] as (...args: unknown[]) => unknown
    mock.method(fs, name, (...args: unknown[]) => {
      const result = real(...args)
      calls.push(name === 'readSync' || name === 'writeSync' ? `${name} ${result}` : name)
      return result
    })
  }
  try {
    run()
  } finally {
    mock.restoreAll()
  }
  return calls
}

/** One call of the program each; the owner 1 000 000 is new. */
const calls: readonly (readonly [string, (store: SubnetStore, leases: number) => unknown])[] = [
  ['acquire() of a never-used address', (store) => store.acquire(owner(1_000_000), 0)],
  ['acquire() of a requested address', (store) => store.acquire(owner(1_000_001), 0, at(70_000))],
  ['acquire() of a requested free address', (store) => store.acquire(owner(1_000_002), 0, at(3))],
  ['acquire() refused because another holds it', (store) => assert.throws(() => store.acquire(owner(1_000_003), 0, at(1)), /holds it/)],
  ['release()', (store, leases) => assert.equal(store.release(owner(leases - 2), at(leases - 2)), true)],
]

test('a change costs the same calls and the same bytes with 10 and with 60,000 leases', () => {
  const base = mkdtempSync(join(tmpdir(), 'tsnet-cost-'))
  try {
    const open = (folder: string) => openSubnet({ folder, network: 'web', rangeSets })
    const folders = sizes.map((leases) => ({ leases, folder: network(base, leases, open) }))
    for (const [name, run] of calls) {
      const [few, many] = folders.map(({ leases, folder }) =>
        traced(() => {
          using store = open(folder)
          run(store, leases)
        }),
      )
      assert.deepEqual(many, few, name)
      assert.ok((few?.length ?? 99) < 30, `${name}: ${few?.join(', ')}`)
      if (process.env['TSNET_TEST_SHOW'] !== undefined) console.log(name, few?.length, few?.join(', '))
    }
  } finally {
    rmSync(base, { recursive: true })
  }
})

test('acquire() from a pool without a never-used address, and of a full pool, costs the same with 10 and with 60,000 leases', () => {
  const base = mkdtempSync(join(tmpdir(), 'tsnet-cost-'))
  try {
    const [few, many] = sizes.map((leases) => {
      const rangeSets = parseRangeSets({ subnet: '10.0.0.0/15', exclude: ['10.0.0.100-10.0.0.200'], rangeEnd: formatAddress(at(leases - 1)) })
      const folder = network(base, leases, (folder) => openSubnet({ folder, network: 'web', rangeSets }))
      // The first call walks to the end of what was never used; every later one starts there.
      return [1, 2, 3, 4].map((n) =>
        traced(() => {
          using store = openSubnet({ folder, network: 'web', rangeSets })
          if (n < 3) store.acquire(owner(1_000_000 + n), 0)
          else assert.throws(() => store.acquire(owner(1_000_000 + n), 0), /are taken/)
        }),
      )
    })
    assert.deepEqual(many, few)
  } finally {
    rmSync(base, { recursive: true })
  }
})
