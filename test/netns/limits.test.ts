import assert from 'node:assert/strict'
import { DUAL_STACK, type Host, hostTest, TSNET } from './host.ts'
import { assertNothingLeft, assertRefused } from './state.ts'

const LIMITS = { ingressRate: 8_000_000, ingressBurst: 1_600_000, egressRate: 16_000_000, egressBurst: 800_000 }
const TUNED = {
  ...DUAL_STACK,
  ...LIMITS,
  sysctl: { 'net.ipv4.conf.IFNAME.accept_redirects': '0', 'net.core.somaxconn': '99' },
  promisc: true,
  txQLen: 77,
}

const linksOf = (host: Host) => host.json<{ ifname: string }>('ip', '-j', 'link').map(({ ifname }) => ifname)
const rates = (host: Host) => host.exec(['tc', 'qdisc']).match(/rate \S+ burst \S+/g)

hostTest('tsnet limits bandwidth and tunes the container by the keys of the plugins for it, in one entry', (host) => {
  const netns = host.container('c1')
  const prevResult = host.mustCni('ADD', { netns, conf: TUNED })
  const call = { netns, conf: TUNED, prevResult }
  assert.deepEqual(rates(host)?.sort(), ['rate 16Mbit burst 100000b', 'rate 8Mbit burst 200000b'])
  assert.match(netns.exec(['ip', '-d', 'link', 'show', 'eth0']), /PROMISC[\s\S]*qlen 77/)
  assert.equal(netns.exec(['cat', '/proc/sys/net/core/somaxconn', '/proc/sys/net/ipv4/conf/eth0/accept_redirects']), '99\n0\n')
  host.mustCni('CHECK', call)
  const detour = linksOf(host).find((name) => name.startsWith('tsi'))
  for (const damage of [`ip link del ${detour}`, `tc qdisc del dev ${linksOf(host).find((name) => name.startsWith('tsn'))} root`]) {
    host.sh(damage)
    assert.match(host.cni('CHECK', call).json.msg ?? '', /lacks the limits of its bandwidth/)
    host.exec([TSNET, 'repair'])
    host.mustCni('CHECK', call)
  }
  netns.sh('ip link set eth0 promisc off; sysctl -qw net.core.somaxconn=5')
  assert.match(JSON.stringify(host.cni('CHECK', call).json), /somaxconn = 99[\s\S]*promisc true/)
  host.exec([TSNET, 'repair'])
  host.mustCni('CHECK', call)
  host.mustCni('DEL', { ...call, netns: '' })
  assertNothingLeft(host)
})

hostTest('tsnet takes limits from the capability, in the capitals of CRI, unless the definition has some', (host) => {
  const netns = host.container('c1')
  const bandwidth = { IngressRate: 80_000_000, IngressBurst: 4_294_967_295, EgressRate: 40_000_000, EgressBurst: 1_000_000 }
  host.mustCni('ADD', { netns, runtimeConfig: { bandwidth } })
  assert.match(host.exec(['tc', 'qdisc']), /rate 80Mbit[\s\S]*rate 40Mbit|rate 40Mbit[\s\S]*rate 80Mbit/)
  host.mustCni('DEL', { netns })
  host.mustCni('ADD', { netns, conf: { ...DUAL_STACK, ingressRate: 8_000, ingressBurst: 80_000 }, runtimeConfig: { bandwidth } })
  assert.deepEqual([linksOf(host).filter((name) => name.startsWith('tsi')), host.exec(['tc', 'qdisc']).match(/rate \S+/g)], [[], ['rate 8Kbit']])
  host.mustCni('DEL', { netns })
  assertNothingLeft(host)
})

hostTest('tsnet refuses limits and parameters that cannot be, and nothing is left of them', (host) => {
  const netns = host.container('c1')
  for (const [more, code] of [
    [{ ingressRate: 8_000 }, 7],
    [{ egressRate: 8_000, egressBurst: 2 ** 40 }, 7],
    [{ sysctl: { 'kernel.hostname': 'x' } }, 7],
    [{ sysctl: { 'net.ipv4.conf.IFNAME.none_such': '1' } }, 7],
    [{ sysctl: { 'net.core.somaxconn': 'none' } }, 999],
    [{ conditionsV4: ['!', '-d', '10.0.0.0/8'] }, 2],
    [{ masqAll: true }, 2],
    [{ ingressPolicy: 'open' }, 7],
  ] as const) {
    assertRefused(host, 'ADD', { netns, conf: { ...DUAL_STACK, ...more } }, code)
  }
  assertNothingLeft(host)
})
