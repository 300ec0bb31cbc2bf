/** The rules of published ports in both languages, against what the reference plugin writes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TsnetError } from '../error.ts'
import { parseTable } from '../nat/iptables/table-edit.ts'
import type { PublishedPort } from '../nat/model.ts'
import { type IpAddress, type IpPrefix, parseAddress, parsePrefix } from '../wire/ip-address.ts'
import type { NftRule } from './nft-script.ts'
import { type PortRules, recordOf, refuseFound, rulesFrom } from './port-rules.ts'
import {
  addLines,
  missingLines,
  publishedPorts,
  publishingContainers,
  removeContainerLines,
  removeLines,
  removePresentLines,
} from './port-rules-iptables.ts'
import { addCommands, missingCommands, publishedByNft, removeCommands } from './port-rules-nftables.ts'

const ip = (text: string) => parseAddress(text) as IpAddress
const CHAIN = 'CNI-DN-623e1c388032b20529218'
const MARK = '-m comment --comment "dnat name: \\"net\\" id: \\"c1\\""'
const port = (hostPort: number, containerPort: number, more: Partial<PublishedPort> = {}): PublishedPort => ({
  protocol: 'tcp',
  hostPort,
  count: 1,
  address: ip('10.1.2.3'),
  containerPort,
  ...more,
})
const rules = (ports: readonly PublishedPort[], options: Partial<PortRules['options']> = {}): PortRules => ({
  network: 'net',
  containerID: 'c1',
  ports,
  targets: [parsePrefix('10.1.2.3/24') as IpPrefix, parsePrefix('fd00::3/64') as IpPrefix],
  options: { snat: true, masqAll: false, mark: { bit: 13 }, conditions: { 4: [], 6: [] }, ...options },
})
const NONE = new Map<string, readonly string[]>()

/** What iptables would have after the lines: none of them deletes. */
function applied(lines: readonly string[]) {
  const text = lines.map((line) => line.replace(/^-N (\S+)/, ':$1 - [0:0]').replace(/^-I /, '-A '))
  return parseTable([':PREROUTING ACCEPT', ':OUTPUT ACCEPT', ':POSTROUTING ACCEPT', ...text].join('\n'))
}

test('addLines() writes what the reference plugin writes', () => {
  const ports = [port(8080, 80), port(8081, 81, { protocol: 'udp', hostAddress: ip('10.1.2.1') })]
  assert.deepEqual(addLines(4, rules(ports), false)(NONE), [
    '-N CNI-HOSTPORT-DNAT',
    '-N CNI-HOSTPORT-SETMARK',
    '-N CNI-HOSTPORT-MASQ',
    `-N ${CHAIN}`,
    '-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT',
    '-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT',
    '-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000',
    '-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE',
    '-I POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ',
    `-A ${CHAIN} -s 10.1.2.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK`,
    `-A ${CHAIN} -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK`,
    `-A ${CHAIN} -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.1.2.3:80`,
    `-A ${CHAIN} -s 10.1.2.0/24 -d 10.1.2.1/32 -p udp -m udp --dport 8081 -j CNI-HOSTPORT-SETMARK`,
    `-A ${CHAIN} -s 127.0.0.1/32 -d 10.1.2.1/32 -p udp -m udp --dport 8081 -j CNI-HOSTPORT-SETMARK`,
    `-A ${CHAIN} -d 10.1.2.1/32 -p udp -m udp --dport 8081 -j DNAT --to-destination 10.1.2.3:81`,
    `-A CNI-HOSTPORT-DNAT -p tcp ${MARK} -m multiport --dports 8080 -j ${CHAIN}`,
    `-A CNI-HOSTPORT-DNAT -p udp ${MARK} -m multiport --dports 8081 -j ${CHAIN}`,
  ])
})

test('addLines() has no chains for marks that are not needed, and one mark for all sources with masqAll', () => {
  const of = (options: Partial<PortRules['options']>) =>
    addLines(4, rules([port(8080, 80)], options), false)(NONE).filter((line) => /MARK|MASQ/.test(line))
  assert.deepEqual(of({ snat: false, masqAll: true }), [])
  assert.deepEqual(of({ masqAll: true, mark: { chain: 'KUBE-MARK-MASQ' } }), [`-A ${CHAIN} -p tcp -m tcp --dport 8080 -j KUBE-MARK-MASQ`])
  assert.equal(of({ mark: { bit: 31 } }).filter((line) => line.includes('0x80000000/0x80000000')).length, 2)
})

test('a rule names 15 ports, and addLines() adds nothing that is there but the container’s own', () => {
  const many = rules(Array.from({ length: 31 }, (_, i) => port(8000 + i, 80)))
  const lines = addLines(4, many, false)(NONE)
  assert.deepEqual(
    lines.flatMap((line) => /--dports (\S+)/.exec(line)?.[1]?.split(',').length ?? []),
    [15, 15, 1],
  )
  const chains = applied(lines)
  assert.deepEqual(missingLines(4, many, chains), [])
  const again = addLines(4, many, false)(chains)
  assert.deepEqual(
    again.filter((line) => !line.includes(CHAIN)),
    [],
  )
  assert.equal(again.filter((line) => line.startsWith('-D CNI-HOSTPORT-DNAT')).length, 3)
})

test('removePresentLines() removes what removeLines() does, and of a chain that is shared only its own', () => {
  const [first, second] = [rules([port(8080, 80)]), rules([port(9090, 90, { address: ip('10.1.2.4') })])]
  const chains = applied([...addLines(4, first, false)(NONE), ...addLines(4, second, true)(applied(addLines(4, first, false)(NONE)))])
  assert.deepEqual([...removePresentLines(4, second, true)(chains)].sort(), [...removeLines(4, second, true)].sort())
  assert.ok(removeLines(4, second, true).every((line) => !line.includes('8080') && !line.startsWith('-X')))
  assert.deepEqual(removeContainerLines('net', 'c1')(chains).slice(-2), [`-F ${CHAIN}`, `-X ${CHAIN}`])
  assert.deepEqual(
    [removeContainerLines('net', 'c2')(chains), publishingContainers('net', chains), publishingContainers('ne', chains)],
    [[], ['c1'], []],
  )
})

test('another container’s ports are found in the rules, but not those under conditions', () => {
  const chains = applied(addLines(4, rules([port(8080, 80), port(8081, 81, { hostAddress: ip('10.1.2.1') })]), false)(NONE))
  const other = (ports: readonly PublishedPort[], options = {}) => ({ ...rules(ports, options), containerID: 'c2' })
  const clash = (wanted: PortRules) => () => refuseFound(wanted, publishedPorts(4, wanted, chains))
  const isTaken = (error: unknown) => error instanceof TsnetError && error.cniCode === 103 && error.message.includes('"c1"')
  assert.throws(clash(other([port(8080, 90)])), isTaken)
  assert.throws(clash(other([port(8081, 90)])), isTaken)
  for (const free of [port(8082, 80), port(8080, 80, { protocol: 'udp' }), port(8081, 90, { hostAddress: ip('10.1.2.9') })])
    assert.doesNotThrow(clash(other([free])))
  assert.doesNotThrow(clash(other([port(8080, 90)], { conditions: { 4: ['-i', 'eth0'], 6: [] } })))
  assert.doesNotThrow(clash({ ...rules([port(8080, 90)]), network: 'another' }), 'the same container')
  const shared = applied(addLines(4, rules([port(8080, 80)], { conditions: { 4: ['-i', 'eth0'], 6: [] } }), false)(NONE))
  assert.deepEqual(publishedPorts(4, other([]), shared), [])
})

test('rulesFrom() gives back what recordOf() keeps', () => {
  const some = rules([port(8080, 80, { hostAddress: ip('10.1.2.1') }), port(8081, 81, { address: ip('fd00::3') })])
  assert.deepEqual(rulesFrom(some, JSON.parse(JSON.stringify(recordOf(some, 'iptables')))), some)
})

/** As nft 1.0.6 lists them. */
const match = (protocol: string, name: string, right: unknown) => ({ match: { op: '==', left: { payload: { protocol, field: name } }, right } })
const LISTED: readonly NftRule[] = [
  { chain: 'hostports', handle: 11, comment: 'c1', expr: [match('tcp', 'dport', 8080), { dnat: { addr: '10.1.2.3', port: 80 } }] },
  {
    chain: 'hostports',
    handle: 12,
    comment: 'c1',
    expr: [match('ip', 'daddr', '10.1.2.1'), match('udp', 'dport', 8081), { dnat: { addr: '10.1.2.3', port: 81 } }],
  },
  { chain: 'hostports', handle: 13, comment: 'c1', expr: [match('tcp', 'dport', 8080), { dnat: { addr: '10.9.9.9', port: 80 } }] },
  {
    chain: 'hostports',
    handle: 14,
    comment: 'c2',
    expr: [match('ip', 'saddr', '192.0.2.1'), match('tcp', 'dport', 9090), { dnat: { addr: '10.1.2.5', port: 90 } }],
  },
  { chain: 'prerouting', handle: 1, expr: [{ jump: { target: 'hostports_all' } }] },
]

test('addCommands() writes a rule for each port, takes its own former ones away, and those alone', () => {
  const ports = [port(8080, 80), port(8081, 81, { protocol: 'udp', hostAddress: ip('10.1.2.1') })]
  const commands = addCommands(4, rules(ports, { conditions: { 4: ['iifname', 'eth0'], 6: [] } }), LISTED)
  assert.deepEqual(
    commands.filter((line) => / hostports (?!handle)|masquerading ip|delete/.test(line)),
    [
      'delete rule ip cni_hostport hostports handle 11',
      'delete rule ip cni_hostport hostports handle 12',
      'add rule ip cni_hostport hostports iifname eth0 tcp dport 8080 dnat to 10.1.2.3:80 comment "c1"',
      'add rule ip cni_hostport hostports iifname eth0 ip daddr 10.1.2.1 udp dport 8081 dnat to 10.1.2.3:81 comment "c1"',
      'add rule ip cni_hostport masquerading ip saddr 10.1.2.0/24 ip daddr 10.1.2.3 ct status dnat masquerade comment "c1"',
      'add rule ip cni_hostport masquerading ip saddr 127.0.0.1 ip daddr 10.1.2.3 ct status dnat masquerade comment "c1"',
    ],
  )
  assert.equal(removeCommands(4, { containerID: 'c1', targets: [] }, LISTED).length, 3)
})

test('missingCommands() and publishedByNft() read what nft lists', () => {
  const ports = [port(8080, 80), port(8081, 81, { protocol: 'udp', hostAddress: ip('10.1.2.1') })]
  assert.deepEqual(missingCommands(4, rules(ports, { snat: false }), LISTED), ['ip cni_hostport output: jump hostports_all'])
  assert.equal(missingCommands(4, rules([...ports, port(8082, 80)]), LISTED).length, 4)
  assert.deepEqual(
    publishedByNft(4, LISTED).map((found) => [found.port.hostPort, found.containerID]),
    [
      [8080, 'c1'],
      [8081, 'c1'],
      [8080, 'c1'],
    ],
  )
})
