import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { TsnetError } from '../../error.ts'
import { formatAddress } from '../../wire/ip-address.ts'
import { parseHostLocalSets } from './range-sets.ts'
import { ReservationStore } from './reservation-store.ts'
import { reserveAddresses } from './reserve.ts'

/** 10.0.0.2 to 10.0.0.6, of which the set hands out all but the gateway. */
const SETS = parseHostLocalSets([[{ subnet: '10.0.0.0/29', gateway: '10.0.0.4' }]])
const SERVED = [1, 2, 3, 5, 6]

type Step =
  | { readonly kind: 'add' | 'del'; readonly owner: number; readonly foreign: boolean }
  | { readonly kind: 'harm'; readonly how: 'delete' | 'truncate' | 'scribble'; readonly file: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constantFrom('add' as const, 'del' as const), owner: fc.nat(6), foreign: fc.boolean() }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('harm' as const),
      how: fc.constantFrom('delete' as const, 'truncate' as const, 'scribble' as const),
      file: fc.nat(9),
    }),
  },
)

/** Two programs in one folder: tsnet's, and the reference as far as its files say. */
class Host implements Disposable {
  readonly dataDir = mkdtempSync(join(tmpdir(), 'host-local-laws-'))
  readonly folder = join(this.dataDir, 'net')
  readonly model = new Map<number, number>()
  #last = 0

  run(change: Step): void {
    if (change.kind === 'harm') return this.#harm(change)
    const { owner, foreign } = change
    const held = [...this.model].find(([, holder]) => holder === owner)?.[0]
    if (change.kind === 'del') {
      if (held !== undefined) this.model.delete(held)
      if (!foreign) this.#open((store) => store.release(store.heldBy({ containerID: `c${owner}`, ifname: 'eth0' })))
      else if (held !== undefined) unlinkSync(join(this.folder, `10.0.0.${held}`))
      return
    }
    const next = held === undefined ? this.#next() : undefined
    if (!foreign) assert.equal(this.#reserve(owner), next === undefined ? undefined : `10.0.0.${next}`)
    if (next === undefined) return
    this.model.set(next, owner)
    this.#last = next
    if (!foreign) return
    this.#open(() => {})
    writeFileSync(join(this.folder, `10.0.0.${next}`), `c${owner}\r\neth0`, { flag: 'wx' })
    writeFileSync(join(this.folder, 'last_reserved_ip.0'), `10.0.0.${next}`)
  }

  check(): void {
    const expected = [...this.model].map(([address, owner]) => `10.0.0.${address} c${owner} eth0`).sort()
    const names = existsSync(this.folder) ? readdirSync(this.folder).filter((name) => /^\d/.test(name)) : []
    const files = names.map((name) => `${name} ${readFileSync(join(this.folder, name), 'utf8').replace('\r\n', ' ')}`)
    assert.deepEqual(files.sort(), expected)
    const known = this.#open((store) => store.all().map(({ address, containerID, ifname }) => `${address} ${containerID} ${ifname}`))
    assert.deepEqual(known.toSorted(), expected)
  }

  [Symbol.dispose](): void {
    rmSync(this.dataDir, { recursive: true })
  }

  #next(): number | undefined {
    const start = SERVED.findIndex((n) => n > this.#last)
    const order = [...SERVED.slice(Math.max(start, 0)), ...SERVED.slice(0, Math.max(start, 0))]
    return order.find((n) => !this.model.has(n))
  }

  #reserve(owner: number): string | undefined {
    const holder = { containerID: `c${owner}`, ifname: 'eth0' }
    try {
      const [lease] = this.#open((store) => reserveAddresses(store, { holder, purpose: {}, sets: SETS, requested: [] }))
      return lease && formatAddress(lease.address)
    } catch (error) {
      if (error instanceof TsnetError) return undefined
      throw error
    }
  }

  #open<T>(act: (store: ReservationStore) => T): T {
    using store = ReservationStore.open({ dataDir: this.dataDir, network: 'net' }, 1000)
    return act(store)
  }

  /** The index may lose what it knows, but must not become wrong. */
  #harm({ how, file }: Step & { readonly kind: 'harm' }): void {
    const folder = join(this.dataDir, '.tsnet/net')
    const names = existsSync(folder) ? readdirSync(folder).sort() : []
    const name = names[file % Math.max(names.length, 1)]
    if (name === undefined) return
    if (how === 'delete') rmSync(folder, { recursive: true })
    if (how === 'truncate') truncateSync(join(folder, name), 3)
    if (how === 'scribble') writeFileSync(join(folder, name), '[{"address":1},null,{"format":1}]')
  }
}

test('whatever tsnet and the reference do in one folder, nobody gets an address twice, and what is held is known', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
      using host = new Host()
      for (const change of steps) {
        host.run(change)
        if (change.kind !== 'harm') host.check()
      }
    }),
    { numRuns: 80 },
  )
})
