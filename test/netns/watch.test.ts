/** `tsnet repair --watch` on the real kernel: what is taken away is there again, with nobody calling for it. */
import assert from 'node:assert/strict'
import { DUAL_STACK, hostTest, TSNET } from './host.ts'
import { useLegacyIptables } from './iptables-variant.ts'
import { eventually } from './machine.ts'
import { assertConnected, Connection, OTHER, type Place, prepare } from './neighbours.ts'
import { assertNothingLeft } from './state.ts'
import { startWatcher } from './watcher.ts'

const IPTABLES_FLUSH = 'for t in iptables ip6tables; do for n in raw nat filter; do $t -t $n -F; $t -t $n -X; done; done'
/** What the reload of a firewall does that knows its own rules only. */
const FOREIGN_RULES = `
  for t in iptables ip6tables; do
    printf '*raw\\nCOMMIT\\n*nat\\n-A POSTROUTING -o nowhere -j MASQUERADE\\nCOMMIT\\n*filter\\n-A INPUT -p tcp --dport 22 -j ACCEPT\\nCOMMIT\\n' | $t-restore
  done`

interface Damage {
  readonly act: (place: Place) => void
  readonly names: RegExp
  readonly cause: RegExp
}

/** Links that were made again are told of too, and the look that follows them may be the one that finds the next damage. */
const HEARD = /links|addresses|switches/

const LINK_DAMAGES: Readonly<Record<string, Damage>> = {
  'the bridge is deleted': { act: ({ host }) => void host.sh('ip link del br-net'), names: /the bridge "br-net"/, cause: HEARD },
  "the bridge's addresses are deleted": { act: ({ host }) => void host.sh('ip addr flush dev br-net'), names: /fd00:50::1/, cause: HEARD },
  'the port leaves its bridge': { act: ({ host, veth }) => void host.sh(`ip link set ${veth} nomaster`), names: /port of "br-net"/, cause: HEARD },
  'hairpin is turned off': { act: ({ host, veth }) => void host.sh(`bridge link set dev ${veth} hairpin off`), names: /hairpin on/, cause: HEARD },
  'the veth pair is deleted': { act: ({ host, veth }) => void host.sh(`ip link del ${veth}`), names: /veth pair/, cause: HEARD },
  'forwarding is turned off': {
    act: ({ host }) => void host.sh('echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding'),
    names: /ip_forward = 1/,
    cause: HEARD,
  },
}

const iptablesDamages = (cause: RegExp): Readonly<Record<string, Damage>> => ({
  'all rules are flushed': { act: ({ host }) => void host.sh(IPTABLES_FLUSH), names: /TSNET-DNAT/, cause },
  'one rule is deleted': { act: ({ host }) => void host.sh('iptables -t nat -D POSTROUTING -j TSNET-MASQ'), names: /TSNET-MASQ/, cause },
  'a foreign ruleset is restored': { act: ({ host }) => void host.sh(FOREIGN_RULES), names: /TSNET-DNAT/, cause },
})

const NFT_FLUSH: Damage = { act: ({ host }) => void host.sh('nft flush ruleset'), names: /./, cause: /rules were deleted/ }

const VARIANTS: Readonly<Record<string, Readonly<Record<string, Damage>>>> = {
  'iptables-nft': { ...iptablesDamages(/rules were deleted/), 'nft flushes its ruleset': NFT_FLUSH },
  'iptables-legacy': iptablesDamages(/legacy rules/),
  nftables: {
    'nft flushes its ruleset': NFT_FLUSH,
    'the table is deleted': { act: ({ host }) => void host.sh('nft delete table inet tsnet'), names: /table inet tsnet/, cause: /rules/ },
    'a chain is flushed': { act: ({ host }) => void host.sh('nft flush table inet tsnet'), names: /rules of the table/, cause: /rules/ },
  },
}

for (const [variant, damages] of Object.entries(VARIANTS)) {
  hostTest(`repair --watch makes again what vanishes, and a connection of another container survives (${variant})`, async (host, t) => {
    if (variant === 'iptables-legacy' && !useLegacyIptables(host)) return t.skip('The kernel has no legacy iptables')
    const place = await prepare(host, variant === 'nftables' ? 'nftables' : 'iptables')
    const conf = { ...DUAL_STACK, backend: variant === 'nftables' ? 'nftables' : 'iptables' }
    const connection = new Connection(place, t)
    await connection.assertAlive()
    const watcher = await startWatcher(host)
    assert.deepEqual(watcher.reports[0]?.causes, ['it started'])
    for (const [what, { act, names, cause }] of Object.entries({ ...damages, ...LINK_DAMAGES })) {
      await t.test(what, async () => {
        const [first] = await watcher.after(what, () => act(place), names)
        assert.match(first?.causes.join(' and ') ?? '', cause)
        await eventually('everything is there again', () => host.run([TSNET, 'repair', '--dry-run']).stdout === WHOLE)
        for (const id of ['c1', 'c2']) host.mustCni('CHECK', { id, netns: `/run/netns/${id}`, conf, prevResult: {} })
        await assertConnected(place)
        await connection.assertAlive()
      })
    }
    await watcher.end()
    for (const id of ['c1', 'c2']) host.mustCni('DEL', { id, conf })
    host.mustCni('DEL', { id: 'c3', conf: { ...OTHER, backend: conf.backend } })
    if (variant === 'iptables-nft') host.sh('iptables -t nat -F; iptables -F; ip6tables -t nat -F; ip6tables -F')
    assertNothingLeft(host)
  })
}

const WHOLE = 'c1\teth0\tnet\tok\t-\nc2\teth0\tnet\tok\t-\nc3\teth0\tother\tok\t-\n'

hostTest('repair --watch finds by looking now and then what nobody tells of', async (host) => {
  const { c1 } = await prepare(host)
  const watcher = await startWatcher(host, { every: '1' })
  const damages: Readonly<Record<string, readonly [script: () => void, names: RegExp]>> = {
    'the way to 127.0.0.1 is closed': [() => void host.sh('echo 0 >/proc/sys/net/ipv4/conf/br-net/route_localnet'), /route_localnet = 1/],
    'a route in the container is deleted': [() => void c1.sh('ip route del default'), /route to 0\.0\.0\.0\/0/],
    'the leases are deleted': [
      () => void host.sh('rm -r /run/tsnet/networks/net/subnet /run/tsnet/networks/net/index'),
      /the lease of 10\.50\.0\.2\/24/,
    ],
    'the claims on ports are deleted': [() => void host.sh('rm -r /run/tsnet/ports/*'), /the claim on 0\.0\.0\.0:8080\/tcp/],
  }
  for (const [what, [act, names]] of Object.entries(damages)) {
    const [first] = await watcher.after(what, act, names)
    assert.deepEqual(first?.causes, ['time was up'])
  }
  for (const id of ['c1', 'c2']) host.mustCni('CHECK', { id, netns: `/run/netns/${id}`, prevResult: {} })
  const before = watcher.reports.length
  await new Promise((resolve) => setTimeout(resolve, 2500))
  assert.equal(watcher.reports.length, before, 'it is silent when all is right')
  await watcher.end('SIGINT')
})

hostTest('repair --watch is silent about what is none of its business, and repairs seldom however much happens', async (host) => {
  await prepare(host)
  const watcher = await startWatcher(host)
  const rules = Array.from({ length: 300 }, (_, i) => `add rule inet foreign chain0 tcp dport ${i + 1} accept`).join('\n')
  const storm = `
    for round in 1 2 3 4 5 6 7 8; do
      printf 'add table inet foreign\\nadd chain inet foreign chain0\\n${rules}\\n' | nft -f -
      iptables -I FORWARD -s 192.0.2.1 -j DROP; iptables -D FORWARD -s 192.0.2.1 -j DROP
      ip link add br-foreign type bridge; ip link set br-foreign up; ip addr add 192.0.2.9/24 dev br-foreign; ip link del br-foreign
      nft delete table inet foreign
    done`
  host.sh(storm)
  await new Promise((resolve) => setTimeout(resolve, 1500))
  assert.equal(watcher.reports.length, 1, watcher.stdout)
  host.sh(`iptables -t nat -F; for i in $(seq 40); do iptables -t nat -F; ip6tables -t nat -F; ip addr flush dev br-net; done; ${storm}`)
  await eventually('everything is there again', () => host.run([TSNET, 'repair', '--dry-run']).stdout === WHOLE)
  await watcher.end()
  // At least a hundred milliseconds lie between two of them, and more with each; the storm takes some seconds.
  assert.ok(watcher.reports.length <= 1 + 15, watcher.stdout)
})

hostTest('repair --watch survives more events than its buffer holds, and looks at everything then', async (host) => {
  await prepare(host)
  const watcher = await startWatcher(host)
  watcher.child.kill('SIGSTOP')
  host.sh('ip link add br-foreign type bridge; ip link set br-foreign up')
  host.exec(['ip', '-batch', '-'], { input: Array.from({ length: 6000 }, (_, i) => `link set br-foreign alias a${i}\n`).join('') })
  const reports = await watcher.after(
    'the bridge is deleted',
    () => void host.sh(`ip link del br-net; kill -CONT ${watcher.child.pid}`),
    /the bridge/,
  )
  assert.ok(reports[0]?.causes.includes('events were lost'), watcher.stdout)
  await watcher.after('rules vanish afterwards', () => void host.sh('iptables -t nat -F TSNET-MASQ'), /MASQUERADE/)
  await watcher.end()
})

hostTest('repair --watch says once what it cannot repair, and repairs it as soon as it can', async (host) => {
  const { c1 } = await prepare(host)
  const watcher = await startWatcher(host)
  c1.sh('ip link set eth0 down; ip link set eth0 name other')
  const failures = () => watcher.reports.flatMap(({ repairs }) => repairs.flatMap(({ problems = [] }) => problems))
  await eventually('the failure is told', () => failures().length > 0)
  await new Promise((resolve) => setTimeout(resolve, 2500))
  assert.equal(failures().length, 1)
  assert.match(failures()[0] ?? '', /^Cannot repair "net\/c1:eth0": only one of/)
  const [report] = await watcher.after('the container has its interface again', () => void c1.sh('ip link set other name eth0'), /"eth0" up/)
  assert.deepEqual(report?.causes, ['the last repair failed'])
  await watcher.end()
})

hostTest('repair --watch says in a line what it made and why, and in another what it could not', async (host) => {
  const { c1 } = await prepare(host)
  const watcher = await startWatcher(host, { more: [] })
  assert.match(watcher.stdout, /^repaired in \d+ ms, because it started: net: net\/ipv4\/conf\/br-net\/route_localnet = 1\n$/)
  host.sh('iptables -t nat -F')
  await eventually('the rules are there again', () => watcher.stdout.includes('deleted'))
  assert.match(watcher.stdout, /\nrepaired in \d+ ms, because rules were deleted: net: the rule "nat: [^\n]*; and \d+ more\n$/)
  c1.sh('ip link set eth0 down; ip link set eth0 name other')
  await eventually('the failure is told', () => watcher.stderr !== '')
  assert.match(watcher.stderr, /^tsnet: Cannot repair "net\/c1:eth0": only one of [^\n]+ Hint: Somebody renamed[^\n]+\n$/)
  watcher.stderr = ''
  await watcher.end()
})

hostTest('repair refuses options that do not go together', (host) => {
  for (const [args, problem] of [
    [['--watch', '--dry-run'], /Cannot use --dry-run with --watch/],
    [['--every', '5'], /Cannot use --every without --watch/],
    [['--watch', '--every', '0'], /Cannot use --every "0"/],
    [['--watch', '--every', '1e3'], /Cannot use --every "1e3"/],
  ] as const) {
    const { status, stderr } = host.run([TSNET, 'repair', ...args])
    assert.equal(status, 1)
    assert.match(stderr, problem)
  }
})
