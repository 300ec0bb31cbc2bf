import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TsnetError } from '../error.ts'
import { checkConditions, languageOf } from './rule-conditions.ts'

const isRefused = (error: unknown) => error instanceof TsnetError && error.cniCode === 7
const allowed = [
  ['-s', '192.0.2.0/24'],
  ['!', '-d', 'fd00::/64', '-i', 'eth0'],
  ['-m', 'set', '--match-set', 'my-set', 'src,dst'],
  ['-m', 'conntrack', '--ctstate', 'NEW'],
  ['-m', 'statistic', '--mode', 'random', '--probability', '0.5'],
  ['ip', 'saddr', '!=', '{', '10.0.0.0/8,', '192.0.2.1', '}'],
  ['iifname', '"eth0"'],
  ['iifname', '"my-set"', 'ip6', 'saddr', 'fd00::1add', 'ip', 'saddr', '@my-set'],
  ['meta', 'mark', '0x1/0x1'],
]
const refused = [
  ['-s', '10.0.0.0/8', '-j', 'ACCEPT'],
  ['-h'],
  ['--help'],
  ['--jum', 'ACCEPT'],
  ['--g=X'],
  ['-M', '/bin/sh'],
  ['--modprobe=/bin/sh'],
  ['-t', 'filter'],
  ['-sX'],
  ['-s', '10.0.0.0/8\nCOMMIT'],
  ['-s', '"10.0.0.0/8"'],
  ['-s', ''],
  ['-s', 'a b'],
  ['-s', 'x'.repeat(129)],
  ['-s', '#'],
  ['ip', 'saddr', '10.0.0.1', 'accept'],
  ['ip', 'saddr', '10.0.0.1;'],
  ['ip', 'saddr', '$x'],
  ['iifname', '"eth0', 'x"'],
  ['meta', 'mark', 'SET', '1'],
  ['tcp', 'dport', 'vmap', '{22:accept,23:drop}'],
  ['meta', 'mark', '1accept'],
  ['meta', 'mark', '0x1accept'],
  Array.from({ length: 65 }, () => '-f'),
]

test('languageOf() goes by the first word', () => {
  assert.deepEqual([[], ['-s', 'x'], ['!', '-s', 'x'], ['ip', 'saddr', 'x']].map(languageOf), [undefined, 'iptables', 'iptables', 'nftables'])
})

test('checkConditions() lets matches pass', () => {
  for (const words of allowed) assert.doesNotThrow(() => checkConditions(words, 'conditionsV4'), words.join(' '))
})

test('checkConditions() refuses every word that does more than match, or that ends a line', () => {
  for (const words of refused) assert.throws(() => checkConditions(words, 'conditionsV4'), isRefused, words.join(' '))
})
