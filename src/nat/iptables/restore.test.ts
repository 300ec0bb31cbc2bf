import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type IpAddress, type IpPrefix, parseAddress, parsePrefix } from '../../wire/ip-address.ts'
import type { PublishedPort } from '../model.ts'
import { formatRestore, parseSave, ruleFromKey, ruleKey } from './restore.ts'
import { attachmentRules, baseRules, networkRules, ownerMark } from './rule.ts'

const ip = (text: string) => parseAddress(text) as IpAddress
const prefix = (text: string) => parsePrefix(text) as IpPrefix
const network = {
  bridge: 'tsnet0',
  subnets: [prefix('10.210.0.0/22'), prefix('fd00::/64')],
  masquerade: true,
  snat: [],
  icc: true,
  internal: false,
  trusted: [],
}
const port: PublishedPort = { protocol: 'tcp', hostPort: 8080, count: 1, address: ip('10.210.0.2'), containerPort: 80 }
const specs = (ports: readonly PublishedPort[], family: 4 | 6 = 4) =>
  attachmentRules(family, { owner: 'net/a:eth0', ports, direct: false }).map(({ spec }) => spec)
const MARK = '-m comment --comment "tsnet:net/a:eth0"'

test('attachmentRules() writes one rule for a port and one for a range', () => {
  assert.deepEqual(specs([port]), [`-p tcp -m tcp --dport 8080 ${MARK} -j DNAT --to-destination 10.210.0.2:80`])
  assert.deepEqual(specs([{ ...port, hostPort: 8000, containerPort: 9000, count: 11 }]), [
    `-p tcp -m tcp --dport 8000:8010 ${MARK} -j DNAT --to-destination 10.210.0.2:9000-9010/8000`,
  ])
  assert.deepEqual(specs([{ ...port, hostPort: 8000, containerPort: 8000, count: 11 }]), [
    `-p tcp -m tcp --dport 8000:8010 ${MARK} -j DNAT --to-destination 10.210.0.2:8000-8010`,
  ])
})

test('attachmentRules() writes host addresses and keeps the families apart', () => {
  const v6: PublishedPort = { ...port, protocol: 'udp', hostAddress: ip('fd99::1'), address: ip('fd00::2') }
  assert.deepEqual(specs([port, v6], 6), [`-d fd99::1/128 -p udp -m udp --dport 8080 ${MARK} -j DNAT --to-destination [fd00::2]:80`])
  assert.equal(specs([port, v6]).length, 1)
})

test('networkRules() writes nothing for a family without a subnet', () => {
  assert.deepEqual(networkRules(6, { ...network, subnets: [prefix('10.0.0.0/24')] }), [])
  assert.equal(networkRules(4, { ...network, masquerade: false }).length, networkRules(4, network).length - 1)
})

test('parseSave() finds every rule that formatRestore() wrote', () => {
  const rules = [...baseRules(4), ...networkRules(4, network), ...attachmentRules(4, { owner: 'net/a:eth0', ports: [port], direct: false })]
  const text = formatRestore({ add: rules, remove: [], createChains: ['nat TSNET-DNAT'], deleteChains: [] }) ?? ''
  const saved = parseSave(text.replaceAll('\n-I ', '\n-A ').replaceAll('\n-N TSNET-DNAT', '\n:TSNET-DNAT - [0:0]'))
  assert.deepEqual(new Set(saved.rules.keys()), new Set(rules.map(ruleKey)))
  assert.deepEqual([...saved.chains], ['nat TSNET-DNAT'])
  for (const key of saved.rules.keys()) assert.equal(ruleKey(ruleFromKey(key)), key)
})

test('formatRestore() deletes before it adds, and chains last', () => {
  const [rule] = attachmentRules(4, { owner: 'net/a:eth0', ports: [port], direct: false })
  assert.ok(rule !== undefined)
  const text = formatRestore({ add: [rule], remove: [rule], createChains: ['nat TSNET-DNAT'], deleteChains: ['nat TSNET-MASQ'] })
  assert.deepEqual(
    text?.split('\n').map((line) => line.slice(0, 5)),
    ['*nat', '-N TS', '-D TS', '-A TS', '-X TS', 'COMMI', ''],
  )
})

test('formatRestore() says when there is nothing to change', () => {
  assert.equal(formatRestore({ add: [], remove: [], createChains: [], deleteChains: [] }), undefined)
})

test('ownerMark() writes quotes and backslashes of an interface name as iptables-save does', () => {
  assert.equal(ownerMark('net/c1:eth0'), '--comment "tsnet:net/c1:eth0"')
  assert.equal(ownerMark(`net/c1:a"b'c\\`), `--comment "tsnet:net/c1:a\\"b\\'c\\\\"`)
  assert.equal(ownerMark('net/c1:"-jACCEPT'), '--comment "tsnet:net/c1:\\"-jACCEPT"')
})
