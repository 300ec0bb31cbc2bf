import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { SCRATCH_FOLDER } from '../../test/scratch.ts'
import { TsnetError } from '../error.ts'
import { formatAddress } from '../wire/ip-address.ts'
import { BY_HAND, type HeldLease, leaseOwner } from './lease.ts'
import { openExistingSubnet, openSubnet } from './open-subnet.ts'
import { salvage } from './salvage.ts'
import { parseRangeSets } from './subnet.ts'

const rangeSets = parseRangeSets({ subnet: '10.0.0.0/28', ranges: [[{ subnet: 'fd00::/64' }]] })
const owner = (n: number) => leaseOwner(`c${n}`, 'eth0')
const textOf = ({ address, owner: by }: HeldLease) => `${formatAddress(address)} ${by}`

/** A file with leases of both families, all recorded but one, and released lines between them. */
function fixture() {
  const base = mkdtempSync(join(SCRATCH_FOLDER, 'tsnet-damage-'))
  const folder = join(base, 'web')
  const path = join(folder, 'subnet')
  {
    using store = openSubnet({ folder, network: 'web', rangeSets })
    for (const n of [1, 2, 3, 4]) for (const set of [0, 1]) store.acquire(owner(n), set)
    store.releaseAll(owner(2))
    store.acquire(BY_HAND, 0)
  }
  using store = openSubnet({ folder, network: 'web', rangeSets })
  const leases = store.leases()
  const recorded = leases.filter((lease) => lease.owner !== BY_HAND)
  const good = readFileSync(path, 'latin1')
  return { folder, path, recorded, leases, good, [Symbol.dispose]: () => rmSync(base, { recursive: true }) }
}

type Fixture = ReturnType<typeof fixture>

/** @returns Whether the file was accepted. Asserts that nothing is handed out twice then, or that the refusal says what to do. */
function examine(f: Fixture, text: string): boolean {
  writeFileSync(f.path, text, 'latin1')
  try {
    using store = openSubnet({ folder: f.folder, network: 'web', rangeSets, recorded: () => f.recorded })
    const held = new Set(store.leases().map(({ address }) => formatAddress(address)))
    for (const { address } of f.recorded) assert.ok(held.has(formatAddress(address)), `the lease of ${formatAddress(address)} is lost`)
    const { address } = store.acquire(owner(99), 0)
    assert.ok(!held.has(formatAddress(address)), `${formatAddress(address)} was handed out twice`)
    return true
  } catch (error) {
    if (!(error instanceof TsnetError)) throw error
    if (error.code === 'TSNET_POOL_FULL') return true
    assert.equal(`${error.code} ${error.cniCode}`, 'TSNET_SUBNET_FILE 5')
    assert.match(error.message, /line \d+ of subnet file "\/.*\/web\/subnet"/)
    assert.match(error.hint ?? '', /tsnet ipam check --repair --network web$/)
    assert.equal(readFileSync(f.path, 'latin1'), text, 'a file that was refused is not touched')
    return false
  }
}

test('a subnet file that is cut short at any byte keeps every recorded lease, or is refused', () => {
  using f = fixture()
  const accepted = Array.from({ length: f.good.length + 1 }, (_, length) => examine(f, f.good.slice(0, length)))
  assert.ok(accepted.slice(4096).every(Boolean), 'behind the head it is always mended')
  assert.ok(
    accepted.slice(0, 100).every((accept) => !accept),
    'without its title it is none',
  )
})

test('a holder whose name was cut short is the recorded one again', () => {
  using f = fixture()
  const at = f.good.indexOf('10.0.0.5 leased c4:eth0')
  writeFileSync(f.path, `${f.good.slice(0, at)}10.0.0.5 leased c4:e`, 'latin1')
  using store = openSubnet({ folder: f.folder, network: 'web', rangeSets, recorded: () => f.recorded })
  assert.ok(store.leases().map(textOf).includes('10.0.0.5 c4:eth0'))
})

test('a subnet file with garbage anywhere hands nothing out twice, or is refused', () => {
  using f = fixture()
  const garbage = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 200 }).map((text) => Buffer.from(text).toString('latin1')),
    fc.constantFrom('\n', '\0'.repeat(128), ' leased ', '10.0.0.3 leased c9:eth0\n', '# tsnet', 'set 1\n', '10.0.0.2 free 1\n'),
  )
  fc.assert(
    fc.property(fc.nat(f.good.length), fc.oneof(fc.nat(3), fc.nat(1000)), garbage, (at, remove, insert) => {
      examine(f, f.good.slice(0, at) + insert + f.good.slice(at + remove))
    }),
    { numRuns: Number(process.env['TSNET_TEST_RUNS'] ?? 800) },
  )
})

test('a subnet file that is gone comes back with the recorded leases', () => {
  using f = fixture()
  rmSync(f.path)
  using store = openSubnet({ folder: f.folder, network: 'web', rangeSets, recorded: () => f.recorded })
  assert.deepEqual(store.leases().map(textOf), f.recorded.map(textOf))
})

test('who only looks changes nothing: without records a cut file is read as it is', () => {
  using f = fixture()
  const cut = f.good.slice(0, 4096 + 128)
  writeFileSync(f.path, cut, 'latin1')
  using store = openExistingSubnet(f.folder)
  assert.equal(store?.leases().length, 1)
  assert.equal(readFileSync(f.path, 'latin1'), cut)
})

test('a lease that another has by now stays with that one', () => {
  using f = fixture()
  writeFileSync(f.path, f.good.replace('10.0.0.5 leased c4:eth0', '10.0.0.5 leased c7:eth0'), 'latin1')
  using store = openExistingSubnet(f.folder, () => f.recorded)
  assert.ok(store?.leases().map(textOf).includes('10.0.0.5 c7:eth0'))
})

test('salvage() reads whatever is left, and never fails', () => {
  using f = fixture()
  const whole = salvage(f.good, f.path)
  assert.equal(whole.head?.network, 'web')
  assert.equal(whole.lines.length, 9)
  const torn = salvage(f.good.replace('set 0', 'sat 0').replace('10.0.0.2 leased', '10.0.0.2 rented'), f.path)
  assert.equal(torn.head, undefined)
  assert.equal(torn.lines.length, 8)
  fc.assert(fc.property(fc.string({ unit: 'binary' }), fc.nat(f.good.length), (noise, at) => void salvage(f.good.slice(0, at) + noise, f.path)))
})
