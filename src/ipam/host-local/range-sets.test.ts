import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { TsnetError } from '../../error.ts'
import { formatAddress, parseAddress } from '../../wire/ip-address.ts'
import { slotCount } from '../range.ts'
import { formatHostLocalSet, parseHostLocalSets, type RangeTexts } from './range-sets.ts'
import { addressesAfter } from './round-robin.ts'

const refusal = (...sets: RangeTexts[][]) => {
  try {
    parseHostLocalSets(sets)
  } catch (error) {
    assert.ok(error instanceof TsnetError)
    assert.equal(error.cniCode, 7)
    return error.message
  }
  return assert.fail('it is accepted')
}

const after = (sets: RangeTexts[], last?: string) =>
  [...addressesAfter(parseHostLocalSets([sets])[0] ?? [], last === undefined ? undefined : parseAddress(last))].map(({ address }) =>
    formatAddress(address),
  )

test('parseHostLocalSets() refuses in the words of the reference plugin', () => {
  assert.equal(refusal(), 'no IP ranges specified')
  assert.equal(refusal([]), 'invalid range set 0: empty range set')
  assert.equal(refusal([{ subnet: '10.0.0.0/31' }]), 'invalid range set 0: Network 10.0.0.0/31 too small to allocate from')
  assert.equal(
    refusal([{ subnet: '10.0.0.5/24' }]),
    'invalid range set 0: Network has host bits set. For a subnet mask of length 24 the network address is 10.0.0.0',
  )
  assert.equal(refusal([{ subnet: '10.0.0.0/24', rangeStart: '10.0.1.1' }]), 'invalid range set 0: 10.0.1.1 not in network 10.0.0.0/24')
  assert.equal(
    refusal([{ subnet: '10.0.0.0/24', rangeStart: '10.0.0.9', rangeEnd: '10.0.0.3' }]),
    'invalid range set 0: 10.0.0.3 is in network 10.0.0.0/24 but before start 10.0.0.9',
  )
  assert.equal(refusal([{ subnet: '10.0.0.0/24' }, { subnet: 'fd00::/64' }]), 'invalid range set 0: mixed address families')
  assert.equal(
    refusal([{ subnet: '10.0.0.0/24' }, { subnet: '10.0.0.0/16' }]),
    'invalid range set 0: subnets 10.0.0.1-10.0.0.254 and 10.0.0.1-10.0.255.254 overlap',
  )
  assert.equal(refusal([{ subnet: '10.0.0.0/24' }], [{ subnet: 'fd00::/64' }], [{ subnet: '10.0.0.128/25' }]), 'range set 0 overlaps with 2')
  assert.match(refusal([{ subnet: '' }]), /^invalid range set 0: "" is not/)
  assert.match(refusal([{ subnet: '10.0.0.0/24', gateway: 'x' }]), /"x" is not an IP address$/)
})

test('parseHostLocalSets() takes ranges that begin with the gateway or with the network address, and hands out neither', () => {
  const [set = []] = parseHostLocalSets([[{ subnet: '10.0.0.0/29', rangeStart: '10.0.0.0', rangeEnd: '10.0.0.7' }]])
  assert.equal(formatHostLocalSet(set), '10.0.0.1-10.0.0.6')
  assert.deepEqual(
    after([{ subnet: '10.0.0.0/29', rangeStart: '10.0.0.0', rangeEnd: '10.0.0.7' }]),
    [2, 3, 4, 5, 6].map((n) => `10.0.0.${n}`),
  )
  assert.deepEqual(after([{ subnet: '10.0.0.0/29', gateway: '10.9.9.9', rangeEnd: '10.0.0.2' }]), ['10.0.0.1', '10.0.0.2'])
  assert.deepEqual(after([{ subnet: '10.0.0.0/29', rangeStart: '10.0.0.1', rangeEnd: '10.0.0.1' }]), [])
})

test('addressesAfter() goes on behind the last one, through all ranges, and ends with it', () => {
  const ranges = [{ subnet: '10.0.0.0/29', rangeEnd: '10.0.0.4' }, { subnet: '10.0.1.0/30' }]
  assert.deepEqual(after(ranges), ['10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.1.2'])
  assert.deepEqual(after(ranges, '10.0.0.3'), ['10.0.0.4', '10.0.1.2', '10.0.0.2', '10.0.0.3'])
  assert.deepEqual(after(ranges, '10.0.1.2'), ['10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.1.2'])
  assert.deepEqual(after(ranges, '10.0.1.1'), ['10.0.1.2', '10.0.0.2', '10.0.0.3', '10.0.0.4'], 'a former address, now the gateway')
  assert.deepEqual(after(ranges, '192.0.2.1'), ['10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.1.2'], 'of another configuration')
})

test('addressesAfter() names every address of a set once, wherever it begins', () => {
  fc.assert(
    fc.property(fc.integer({ min: 26, max: 30 }), fc.nat(255), fc.nat(63), (length, last, gateway) => {
      const range = { subnet: `10.0.0.0/${length}`, gateway: `10.0.0.${gateway}` }
      const [set = []] = parseHostLocalSets([[range]])
      const found = after([range], `10.0.0.${last}`)
      assert.equal(new Set(found).size, found.length)
      assert.equal(
        BigInt(found.length),
        set.reduce((sum, one) => sum + slotCount(one), 0n),
      )
      assert.ok(!found.includes(range.gateway))
    }),
  )
})
