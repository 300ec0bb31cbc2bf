import assert from 'node:assert/strict'
import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { SCRATCH_FOLDER } from '../../test/scratch.ts'
import { TsnetError } from '../error.ts'
import { formatAddress, type IpAddress, parseAddress } from '../wire/ip-address.ts'
import { leaseOwner } from './lease.ts'
import { openSubnet } from './open-subnet.ts'
import type { RangeSet } from './range.ts'
import type { SubnetStore } from './store.ts'
import { parseRangeSets } from './subnet.ts'

type Step =
  | { readonly kind: 'acquire'; readonly owner: number }
  | { readonly kind: 'request'; readonly owner: number; readonly address: number }
  | { readonly kind: 'release'; readonly owner: number; readonly pick: number }
  | { readonly kind: 'releaseAll'; readonly owner: number }
  | { readonly kind: 'reopen' }
  | { readonly kind: 'harm'; readonly how: 'delete' | 'truncate' | 'scribble' | 'append' | 'touch'; readonly file: number }
  | { readonly kind: 'configure'; readonly ranges: number }

const owners = fc.nat(5)
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('acquire' as const), owner: owners }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('request' as const), owner: owners, address: fc.nat(17) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('release' as const), owner: owners, pick: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('releaseAll' as const), owner: owners }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('reopen' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('harm' as const),
      how: fc.constantFrom('delete', 'truncate', 'scribble', 'append', 'touch'),
      file: fc.nat(9),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('configure' as const), ranges: fc.nat(2) }) },
)

const configurations: readonly (readonly RangeSet[])[] = [
  parseRangeSets({ subnet: '10.0.0.0/28', exclude: ['10.0.0.6-10.0.0.7'] }),
  parseRangeSets({
    ranges: [
      [
        { subnet: '10.0.0.0/28', rangeEnd: '10.0.0.5' },
        { subnet: '10.0.0.0/28', rangeStart: '10.0.0.8' },
      ],
    ],
  }),
  parseRangeSets({ subnet: '10.0.0.0/28', rangeStart: '10.0.0.4' }),
]
const served: readonly ReadonlySet<number>[] = [
  [2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14],
  [2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14],
  [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
].map((list) => new Set(list))

const owner = (n: number) => leaseOwner(`c${n}`, 'eth0')
const text = (n: number) => `10.0.0.${n}`
const ip = (n: number) => parseAddress(text(n)) as IpAddress

/** The plainest store that can be: who holds what, and when each address was released. */
class Model {
  readonly holder = new Map<number, number>()
  readonly released = new Map<number, number>()
  #clock = 0

  free(n: number): void {
    this.holder.delete(n)
    this.released.set(n, ++this.#clock)
  }

  next(ranges: number): number | undefined {
    const free = [...(served[ranges] as ReadonlySet<number>)].filter((n) => !this.holder.has(n))
    return free.sort((a, b) => (this.released.get(a) ?? 0) - (this.released.get(b) ?? 0) || a - b)[0]
  }
}

/** Where the system under test and the model stand. */
interface World {
  readonly folder: string
  readonly model: Model
  store: SubnetStore
  ranges: number
}

const open = (folder: string, ranges: number) => openSubnet({ folder, network: 'web', rangeSets: configurations[ranges] as readonly RangeSet[] })

function run(world: World, current: Step): void {
  const { model, store } = world
  if (current.kind === 'acquire') acquire(world, current.owner)
  else if (current.kind === 'request') request(world, current)
  else if (current.kind === 'release') {
    const held = [...model.holder]
    const [address, holder] = held[current.pick % Math.max(held.length, 1)] ?? [current.pick, undefined]
    assert.equal(store.release(owner(current.owner), ip(address)), holder === current.owner)
    if (holder === current.owner) model.free(address)
  } else if (current.kind === 'releaseAll') {
    for (const address of store.releaseAll(owner(current.owner))) model.free(Number(address.value & 255n))
    assert.ok(![...model.holder.values()].includes(current.owner))
  } else {
    store[Symbol.dispose]()
    if (current.kind === 'harm') harm(world.folder, current.how, current.file)
    if (current.kind === 'configure') {
      // What lies outside the new ranges forgets when it was released.
      if (current.ranges !== world.ranges)
        for (const n of model.released.keys()) if (!(served[current.ranges] as ReadonlySet<number>).has(n)) forget(model, n)
      world.ranges = current.ranges
    }
    world.store = open(world.folder, world.ranges)
  }
  const held = world.store.leases().map((lease) => `${formatAddress(lease.address)} ${lease.owner}`)
  assert.deepEqual(held.sort(), [...model.holder].map(([n, by]) => `${text(n)} ${owner(by)}`).sort())
}

function forget(model: Model, n: number): void {
  if (!model.holder.has(n)) model.released.delete(n)
}

function acquire({ model, store, ranges }: World, by: number): void {
  const expected = model.next(ranges)
  if (expected === undefined) {
    assert.throws(
      () => store.acquire(owner(by), 0),
      (error: unknown) => error instanceof TsnetError && error.code === 'TSNET_POOL_FULL',
    )
    return
  }
  assert.equal(formatAddress(store.acquire(owner(by), 0).address), text(expected))
  model.holder.set(expected, by)
}

function request({ model, store, ranges }: World, current: Extract<Step, { kind: 'request' }>): void {
  const code = !(served[ranges] as ReadonlySet<number>).has(current.address) ? 7 : model.holder.has(current.address) ? 102 : undefined
  const attempt = () => store.acquire(owner(current.owner), 0, ip(current.address))
  if (code !== undefined) assert.throws(attempt, (error: unknown) => error instanceof TsnetError && error.cniCode === code)
  else {
    assert.equal(formatAddress(attempt().address), text(current.address))
    model.holder.set(current.address, current.owner)
  }
}

function harm(folder: string, how: Extract<Step, { kind: 'harm' }>['how'], pick: number): void {
  const index = join(folder, 'index')
  const names = existsSync(index) ? readdirSync(index) : []
  const name = names[pick % Math.max(names.length, 1)]
  if (name === undefined) return
  const path = join(index, name)
  if (how === 'delete') unlinkSync(path)
  else if (how === 'truncate') truncateSync(path, Math.floor(readFileSync(path).length / 2))
  else if (how === 'scribble')
    writeFileSync(
      path,
      readFileSync(path).map((byte) => byte ^ 0xa5),
    )
  // A queue may hold entries that its writer did not live to confirm; they say nothing.
  else if (how === 'append') appendFileSync(path, Buffer.alloc(16, 7))
  else writeFileSync(join(folder, 'subnet'), readFileSync(join(folder, 'subnet')))
}

test('a store does what a map would do, whatever is done to its hints and its configuration in between', { timeout: 120_000 }, () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 80, size: 'max' }), (steps) => {
      const base = mkdtempSync(join(SCRATCH_FOLDER, 'tsnet-laws-'))
      const world: World = { folder: join(base, 'web'), model: new Model(), store: open(join(base, 'web'), 0), ranges: 0 }
      try {
        for (const current of steps) run(world, current)
      } finally {
        world.store[Symbol.dispose]()
        rmSync(base, { recursive: true })
      }
    }),
    { numRuns: Number(process.env['TSNET_TEST_RUNS'] ?? 300) },
  )
})
