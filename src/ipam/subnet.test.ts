import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TsnetError } from '../error.ts'
import { formatAddress, formatPrefix, parsePrefix } from '../wire/ip-address.ts'
import { chooseSubnet } from './choose-subnet.ts'
import { formatRangeSet, formatSpan, slotCount } from './range.ts'
import { parseRangeSets } from './subnet.ts'
import { parseSubnetEnv } from './subnet-env.ts'

const texts = (ipam: Record<string, unknown>, ipRanges?: unknown) => parseRangeSets(ipam, ipRanges).map(formatRangeSet)

function refuses(ipam: Record<string, unknown>, message: RegExp, hint?: RegExp): void {
  assert.throws(
    () => parseRangeSets(ipam),
    (error: unknown) => {
      assert.ok(error instanceof TsnetError)
      assert.equal(error.code, 'TSNET_SUBNET')
      assert.equal(error.cniCode, 7)
      assert.match(error.message, message)
      if (hint !== undefined) assert.match(error.hint ?? '', hint)
      return true
    },
  )
}

test('parseRangeSets() takes the first host as gateway and hands out the rest', () => {
  const [set] = parseRangeSets({ subnet: '10.0.0.0/24' })
  assert.equal(formatRangeSet(set ?? []), '10.0.0.2-10.0.0.254')
  assert.equal(formatAddress(set?.[0]?.gateway as never), '10.0.0.1')
  assert.deepEqual(texts({ subnet: 'fd00::/64' }), ['fd00::2-fd00::ffff:ffff:ffff:ffff'])
  assert.deepEqual(texts({ subnet: '10.0.0.0/30' }), ['10.0.0.2-10.0.0.2'])
})

test('parseRangeSets() orders runtime ranges, the old style and "ranges"', () => {
  const ipam = {
    subnet: '10.0.0.0/24',
    ranges: [[{ subnet: 'fd00::/64', rangeEnd: 'fd00::9' }], [{ subnet: '10.3.0.0/24' }, { subnet: '10.4.0.0/24' }]],
  }
  assert.deepEqual(texts(ipam, [[{ subnet: '10.9.0.0/30' }]]), [
    '10.9.0.2-10.9.0.2',
    '10.0.0.2-10.0.0.254',
    'fd00::2-fd00::9',
    '10.3.0.2-10.3.0.254, 10.4.0.2-10.4.0.254',
  ])
})

test('parseRangeSets() honours start, end, gateway and exclusions', () => {
  const ipam = {
    subnet: '10.0.0.0/24',
    rangeStart: '10.0.0.10',
    rangeEnd: '10.0.0.20',
    gateway: '10.0.0.12',
    exclude: ['10.0.0.10', '10.0.0.15-10.0.0.16', '10.0.0.128/25'],
  }
  const [range] = parseRangeSets(ipam).flat()
  assert.equal(formatSpan(range as never), '10.0.0.11-10.0.0.20')
  assert.deepEqual(range?.exclude.map(formatSpan), ['10.0.0.15-10.0.0.16'])
  assert.equal(slotCount(range as never), 7n)
})

test('parseRangeSets() cuts off network and broadcast address', () => {
  assert.deepEqual(texts({ subnet: '10.0.0.0/24', rangeStart: '10.0.0.0', rangeEnd: '10.0.0.255', gateway: '10.0.0.9' }), ['10.0.0.1-10.0.0.254'])
  assert.deepEqual(texts({ subnet: 'fd00::/126', rangeStart: 'fd00::', gateway: 'fd00::3' }), ['fd00::1-fd00::2'])
})

test('parseRangeSets() returns nothing for a configuration that names no subnet', () => {
  assert.deepEqual(parseRangeSets({ type: 'tsnet' }), [])
  assert.deepEqual(parseRangeSets({ ranges: [] }), [])
})

const refusals: readonly (readonly [string, Record<string, unknown>, RegExp, RegExp?])[] = [
  ['host bits', { subnet: '10.0.0.5/24' }, /Subnet "10.0.0.5\/24" has host bits set/, /10\.0\.0\.0\/24/],
  ['no prefix', { subnet: '10.0.0.0' }, /Subnet "10.0.0.0" is not of the form/],
  ['/31', { subnet: '10.0.0.0/31' }, /too small: the longest prefix is \/30/],
  ['/127', { subnet: 'fd00::/127' }, /too small: the longest prefix is \/126/],
  ['a number as subnet', { subnet: 5 }, /"subnet" must be a string, not 5/],
  ['start outside', { subnet: '10.0.0.0/24', rangeStart: '10.0.1.5' }, /"rangeStart" 10.0.1.5 lies outside subnet 10.0.0.0\/24/],
  ['end of no address', { subnet: '10.0.0.0/24', rangeEnd: 'x' }, /"rangeEnd" "x" is not an IP address/],
  [
    'start after end',
    { subnet: '10.0.0.0/24', rangeStart: '10.0.0.9', rangeEnd: '10.0.0.8' },
    /"rangeStart" 10.0.0.9 comes after "rangeEnd" 10.0.0.8/,
  ],
  ['gateway of no address', { subnet: '10.0.0.0/24', gateway: '10.0.0' }, /"gateway" "10.0.0" is not an IP address/],
  ['gateway of the other family', { subnet: '10.0.0.0/24', gateway: 'fd00::1' }, /"gateway" fd00::1 is not of the family/],
  ['network address as gateway', { subnet: '10.0.0.0/24', gateway: '10.0.0.0' }, /is the network address/],
  ['broadcast address as gateway', { subnet: '10.0.0.0/24', gateway: '10.0.0.255' }, /is the broadcast address/],
  ['gateway without subnet', { gateway: '10.0.0.1' }, /"gateway" "10.0.0.1" needs a "subnet"/],
  ['ranges of no list', { ranges: {} }, /"ranges" must be a list, not \{\}/],
  ['a set of no list', { ranges: [{}] }, /Set 0 of "ranges" must be a list/],
  ['an empty set', { ranges: [[]] }, /Set 0 of "ranges" must name at least one range/],
  ['a range without subnet', { ranges: [[{}]] }, /names no "subnet"/],
  ['a range of no object', { ranges: [['x']] }, /A range must be an object, not "x"/],
  [
    'two families in a set',
    { ranges: [[{ subnet: '10.0.0.0/24' }, { subnet: 'fd00::/64' }]] },
    /10.0.0.0\/24 and fd00::\/64 of one range set are of different families/,
    /set of its own/,
  ],
  [
    'overlap inside a set',
    { ranges: [[{ subnet: '10.0.0.0/24' }, { subnet: '10.0.0.0/25' }]] },
    /10.0.0.2-10.0.0.254 and 10.0.0.2-10.0.0.126 of range set 0 overlap/,
  ],
  ['overlap of sets', { subnet: '10.0.0.0/24', ranges: [[{ subnet: '10.0.0.0/16' }]] }, /of range sets 0 and 1 overlap/],
  ['everything excluded', { subnet: '10.0.0.0/30', exclude: ['10.0.0.2'] }, /holds no address to hand out/],
  ['exclusion elsewhere', { subnet: '10.0.0.0/24', exclude: ['10.0.1.5'] }, /Excluded 10.0.1.5-10.0.1.5 lies in no subnet/],
  ['exclusion outside its range', { ranges: [[{ subnet: '10.0.0.0/24', exclude: ['10.0.1.5'] }]] }, /lies outside subnet 10.0.0.0\/24/],
  ['exclusion of no address', { subnet: '10.0.0.0/24', exclude: ['10.0.0.1-'] }, /Excluded "10.0.0.1-" is not an address/],
  ['exclusion of a number', { subnet: '10.0.0.0/24', exclude: [5] }, /"exclude" must list strings, not 5/],
  ['exclusion backwards', { subnet: '10.0.0.0/24', exclude: ['10.0.0.9-10.0.0.8'] }, /ends before it starts/],
  ['exclusion of both families', { subnet: '10.0.0.0/24', exclude: ['10.0.0.9-fd00::1'] }, /mixes IPv4 and IPv6/],
  [
    'exclusion with host bits',
    { subnet: '10.0.0.0/24', exclude: ['10.0.0.9/25'] },
    /has host bits set/,
    /10\.0\.0\.0\/25 for the block or 10\.0\.0\.9/,
  ],
]

for (const [name, ipam, message, hint] of refusals) test(`parseRangeSets() refuses ${name}`, () => refuses(ipam, message, hint))

test("parseSubnetEnv() reads flannel's file, the address being the gateway", () => {
  const env = parseSubnetEnv(
    'FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.15.1/24\nFLANNEL_IPV6_SUBNET=fc00:0:0:f::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
  )
  assert.deepEqual(env.rangeSets.map(formatRangeSet), ['10.1.15.2-10.1.15.254', 'fc00:0:0:f::2-fc00::f:ffff:ffff:ffff:ffff'])
  assert.equal(formatAddress(env.rangeSets[0]?.[0]?.gateway as never), '10.1.15.1')
  assert.deepEqual(env.networks.map(formatPrefix), ['10.1.0.0/16'])
  assert.equal(env.mtu, 1450)
  assert.equal(env.ipMasq, true)
})

test('parseSubnetEnv() refuses what cannot be served', () => {
  assert.throws(() => parseSubnetEnv('FLANNEL_MTU=1450'), /names neither/)
  assert.throws(() => parseSubnetEnv('FLANNEL_SUBNET=10.1.15.1'), /FLANNEL_SUBNET "10.1.15.1" is not of the form/)
  assert.throws(() => parseSubnetEnv('FLANNEL_SUBNET=10.1.15.1/24\nFLANNEL_MTU=big'), /FLANNEL_MTU "big"/)
  assert.throws(() => parseSubnetEnv('FLANNEL_SUBNET=10.1.15.1/24\nFLANNEL_IPMASQ=maybe'), /FLANNEL_IPMASQ "maybe"/)
})

test('chooseSubnet() takes the first free one and jumps over what is taken', () => {
  const prefix = (text: string) => parsePrefix(text) as NonNullable<ReturnType<typeof parsePrefix>>
  const choose = (pool: readonly string[], length: number, taken: readonly string[]) => {
    const found = chooseSubnet(pool.map(prefix), length, taken.map(prefix))
    return found === undefined ? undefined : formatPrefix(found)
  }
  assert.equal(choose(['10.0.0.0/8'], 24, []), '10.0.0.0/24')
  assert.equal(choose(['10.0.0.0/8'], 24, ['10.0.0.0/9', '10.128.0.77/32']), '10.128.1.0/24')
  assert.equal(choose(['10.0.0.0/8', 'fd00::/8'], 64, ['fd00::/16']), 'fd01::/64')
  assert.equal(choose(['10.0.0.0/8', '172.16.0.0/12'], 16, ['0.0.0.0/0']), undefined)
  assert.equal(choose(['10.0.0.0/24'], 16, []), undefined)
})
