import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseTable } from '../nat/iptables/table-edit.ts'
import { type IpAddress, parseAddress } from '../wire/ip-address.ts'
import { closeLines, closePresentLines, isIsolated, joinLines, missingFirewallLines, openLines } from './firewall-rules.ts'

const addresses = [parseAddress('10.1.2.3') as IpAddress]
const open = { addresses, adminChain: 'CNI-ADMIN' }
const isolated = { ...open, isolation: { bridge: 'br0', policy: 'isolated' } as const }
const FORWARD = parseTable(':FORWARD ACCEPT [0:0]\n')

/** The chains after the lines, of which none deletes. */
function applied(lines: readonly string[]) {
  return parseTable([':FORWARD ACCEPT', ...lines].map((line) => line.replace(/^-N (\S+)/, ':$1 - [0:0]').replace(/^-I /, '-A ')).join('\n'))
}

test('openLines() writes what the reference plugin writes, and lets published ports in', () => {
  assert.deepEqual(openLines(open, FORWARD), [
    '-N CNI-FORWARD',
    '-N CNI-ADMIN',
    '-I FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD',
    '-I CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j CNI-ADMIN',
    '-A CNI-FORWARD -d 10.1.2.3/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    '-A CNI-FORWARD -s 10.1.2.3/32 -j ACCEPT',
    '-A CNI-FORWARD -d 10.1.2.3/32 -m conntrack --ctstate DNAT -j ACCEPT',
  ])
})

test('openLines() adds nothing twice, and what it adds is what is missed', () => {
  for (const rules of [open, isolated]) {
    const chains = applied(openLines(rules, FORWARD))
    assert.deepEqual([openLines(rules, chains), missingFirewallLines(rules, chains, false)], [[], []])
    assert.equal(missingFirewallLines(rules, FORWARD, false).length, openLines(rules, FORWARD).filter((line) => !/^-N|RETURN/.test(line)).length)
  }
  assert.equal(missingFirewallLines(open, FORWARD, true).length, 4, 'the reference plugin has no rule for published ports')
})

test('closePresentLines() removes what is left of what closeLines() does', () => {
  const chains = applied(openLines(open, FORWARD))
  assert.deepEqual(closePresentLines(addresses, chains), closeLines(addresses))
  assert.deepEqual(closePresentLines(addresses, FORWARD), [])
})

test('joinLines() takes the chains of isolation away with the last bridge', () => {
  const chains = applied(openLines(isolated, FORWARD))
  assert.equal(isIsolated(isolated.isolation, chains), true)
  const last = joinLines('br0', chains)
  assert.deepEqual(
    last.filter((line) => !line.startsWith('-D FORWARD')),
    ['-F CNI-ISOLATION-STAGE-1', '-F CNI-ISOLATION-STAGE-2', '-X CNI-ISOLATION-STAGE-1', '-X CNI-ISOLATION-STAGE-2'],
  )
  const two = applied([...openLines(isolated, FORWARD), ...openLines({ ...open, isolation: { bridge: 'br1', policy: 'same-bridge' } }, chains)])
  assert.ok(joinLines('br0', two).length === 3 && joinLines('br0', two).every((line) => /^-D CNI-ISOLATION-STAGE-[12] .*br0/.test(line)))
  assert.deepEqual(joinLines('br0', FORWARD), [])
})
