/** `tsnet repair` on the real kernel: one thing after the other is taken away, and must be there again. */
import assert from 'node:assert/strict'
import { ADDRESSES, type Container, DUAL_STACK, type Host, hostTest, TSNET } from './host.ts'
import { useLegacyIptables } from './iptables-variant.ts'
import { eventually } from './machine.ts'
import { assertConnected, Connection, OTHER, type Place, ports, prepare } from './neighbours.ts'
import { assertNothingLeft, assertSame, bookOf, snapshot } from './state.ts'

const FLUSH = 'for t in iptables ip6tables; do for n in raw nat filter; do $t -t $n -F; done; done'
const FLUSH_AND_DELETE = `${FLUSH}; for t in iptables ip6tables; do for n in raw nat filter; do $t -t $n -X; done; done`

function repair(host: Host, ...args: readonly string[]): string {
  const { status, stdout, stderr } = host.run([TSNET, 'repair', ...args])
  assert.equal(status, 0, stderr)
  assert.equal(stderr, '')
  return stdout
}

/** Everything, with the inside of the containers. */
function everything({ host, c1, c2 }: Place): object {
  const inside = (container: Container) =>
    [['addr'], ['route'], ['-6', 'route']].map((words) =>
      container
        .json<Record<string, unknown>>('ip', '-j', ...words)
        .map((entry) =>
          JSON.stringify(entry, (_, value) => (Array.isArray(value) ? value.filter((one) => !/"fe80/.test(JSON.stringify(one))) : value)),
        ),
    )
  return { host: snapshot(host), c1: inside(c1), c2: inside(c2) }
}

/** Each takes one thing away; the pattern is what repair has to name. */
const DAMAGES: Readonly<Record<string, { readonly act: (place: Place) => void; readonly names: RegExp }>> = {
  'all rules are flushed': { act: ({ host }) => void host.sh(FLUSH), names: /TSNET-DNAT/ },
  'all rules are flushed and the chains deleted': { act: ({ host }) => void host.sh(FLUSH_AND_DELETE), names: /TSNET-DNAT/ },
  'the rule of a port is gone': {
    act: ({ host }) => void host.sh('iptables-save | grep "c1:eth0" | sed "s/^-A/iptables -t nat -D/" | sh -e'),
    names:
      /^-\t-\tnet\trepaired\tthe rule "nat: -A TSNET-DNAT .*c1:eth0[^\n]*\n-\t-\tnet\trepaired\t[^\n]*udp[^\n]*\nc1\teth0\tnet\tok\t-\nc2\teth0\tnet\tok\t-\n$/,
  },
  'what lets packets to the bridge through is gone': {
    act: ({ host }) => void host.sh('for t in iptables ip6tables; do $t -S TSNET-TO | grep ACCEPT | sed "s/^-A/$t -D/" | sh -e; done'),
    names: /TSNET-TO .*ACCEPT/,
  },
  'a jump is gone': {
    act: ({ host }) => void host.sh('iptables -D TSNET-FORWARD -j TSNET-TO; ip6tables -D FORWARD -j TSNET-FORWARD'),
    names: /-j TSNET-TO/,
  },
  'the masquerading is gone': {
    act: ({ host }) => void host.sh('iptables -t nat -F TSNET-MASQ; ip6tables -t nat -F TSNET-MASQ'),
    names: /MASQUERADE/,
  },
  "the bridge's addresses are gone": { act: ({ host }) => void host.sh('ip addr flush dev br-net'), names: /10\.50\.0\.1\/24[\s\S]*fd00:50::1\/64/ },
  'the bridge is down': { act: ({ host }) => void host.sh('ip link set br-net down'), names: /bridge "br-net" up/ },
  'the bridge is deleted': { act: ({ host }) => void host.sh('ip link del br-net'), names: /the bridge "br-net"/ },
  'the bridge was made anew by somebody': { act: ({ host }) => void host.sh('ip link del br-net; ip link add br-net type bridge'), names: /br-net/ },
  'hairpin is off': { act: ({ host, veth }) => void host.sh(`bridge link set dev ${veth} hairpin off`), names: /hairpin on/ },
  'the port left its bridge': { act: ({ host, veth }) => void host.sh(`ip link set ${veth} nomaster`), names: /port of "br-net"/ },
  'the port is in another bridge': {
    act: ({ host, veth }) => void host.sh(`ip link show br-x >/dev/null 2>&1 || ip link add br-x type bridge; ip link set ${veth} master br-x`),
    names: /port of "br-net"/,
  },
  'the port is down': { act: ({ host, veth }) => void host.sh(`ip link set ${veth} down`), names: /port "tsn\w+" up/ },
  'the switches are off': {
    act: ({ host }) =>
      void host.sh('cd /proc/sys/net; echo 0 >ipv4/ip_forward; echo 0 >ipv6/conf/all/forwarding; echo 0 >ipv4/conf/br-net/route_localnet'),
    names: /ip_forward = 1/,
  },
  "the container's routes are gone": {
    act: ({ c1 }) => void c1.sh('ip route del default; ip -6 route del default'),
    names: /route to 0\.0\.0\.0\/0[\s\S]*::\/0/,
  },
  "the container's addresses are gone": {
    act: ({ c1 }) => void c1.sh('ip addr flush dev eth0 scope global'),
    names: /address 10\.50\.0\.2\/24 on "eth0"/,
  },
  "the container's interface is down": { act: ({ c1 }) => void c1.sh('ip link set eth0 down'), names: /"eth0" up/ },
  "the container's loopback is down": { act: ({ c1 }) => void c1.sh('ip link set lo down'), names: /loopback/ },
  'IPv6 is off in the container': { act: ({ c1 }) => void c1.sh('echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6'), names: /disable_ipv6 = 0/ },
  'the veth pair is deleted': { act: ({ host, veth }) => void host.sh(`ip link del ${veth}`), names: /veth pair/ },
  'the leases are gone': {
    act: ({ host }) => void host.sh("sed -i '/c1:eth0/d' /run/tsnet/networks/net/subnet"),
    names: /the lease of 10\.50\.0\.2\/24[\s\S]*the lease of fd00:50::/,
  },
  'the subnet file is gone': {
    act: ({ host }) => void host.sh('rm -r /run/tsnet/networks/net/subnet /run/tsnet/networks/net/index'),
    names: /the lease of 10\.50\.0\.2\/24[\s\S]*the lease of 10\.50\.0\.3\/24/,
  },
  'the claims on host ports are gone': {
    act: ({ host }) => void host.sh('rm -r /run/tsnet/ports'),
    names: /the claim on 0\.0\.0\.0:8080\/tcp[\s\S]*the claim on \[::\]:8082\/tcp/,
  },
  'everything is gone at once': {
    act: ({ host, veth }) => void host.sh(`${FLUSH_AND_DELETE}; ip link del ${veth}; ip link del br-net; echo 0 >/proc/sys/net/ipv4/ip_forward`),
    names: /veth pair/,
  },
}

for (const variant of ['nft', 'legacy'] as const) {
  hostTest(`repair makes again what is gone, once, and a connection of another container survives (iptables-${variant})`, async (host, t) => {
    if (variant === 'legacy' && !useLegacyIptables(host)) return t.skip('The kernel has no legacy iptables')
    const place = await prepare(host)
    const connection = new Connection(place, t)
    await connection.assertAlive()
    for (const [what, { act, names }] of Object.entries(DAMAGES)) {
      await t.test(what, async () => {
        act(place)
        const damaged = everything(place)
        const planned = repair(host, '--dry-run', '--network', 'net')
        assert.match(planned, /\tmissing\t/)
        assertSame(everything(place), damaged, 'a dry run changed something')
        const made = repair(host, '--network', 'net')
        assert.match(made, names)
        assert.equal(made.replaceAll('\trepaired\t', '\tmissing\t'), planned)
        for (const id of ['c1', 'c2']) host.mustCni('CHECK', { id, netns: `/run/netns/${id}`, prevResult: {} })
        await assertConnected(place)
        await connection.assertAlive()
        repair(host)
        const whole = everything(place)
        assert.equal(repair(host), 'c1\teth0\tnet\tok\t-\nc2\teth0\tnet\tok\t-\nc3\teth0\tother\tok\t-\n')
        assertSame(everything(place), whole, 'a second repair changed something')
      })
    }
    host.run(['ip', 'link', 'del', 'br-x'])
    for (const id of ['c1', 'c2']) host.mustCni('DEL', { id })
    host.mustCni('DEL', { id: 'c3', conf: OTHER })
    assertNothingLeft(host)
  })
}

hostTest('repair makes the native table and its elements again', async (host) => {
  const [c1, conf] = [host.container('c1'), { ...DUAL_STACK, backend: 'nftables' }]
  host.mustCni('ADD', { id: 'c1', netns: c1, conf, runtimeConfig: ports(8080) })
  await c1.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port: 80 }, 'c1')
  for (const damage of ['nft delete table inet tsnet', 'nft flush ruleset']) {
    host.sh(damage)
    assert.match(repair(host), /^-\t-\tnet\trepaired\tthe rule "[\s\S]*c1\teth0\tnet\tok\t-\n$/)
    host.mustCni('CHECK', { id: 'c1', netns: c1, conf, prevResult: {} })
    assert.equal((await host.outside.talker.ask({ protocol: 'tcp', address: ADDRESSES[4].host, port: 8080 })).name, 'c1')
    const whole = host.exec(['nft', '-s', 'list', 'ruleset'])
    assert.equal(repair(host), 'c1\teth0\tnet\tok\t-\n')
    assert.equal(host.exec(['nft', '-s', 'list', 'ruleset']), whole)
  }
})

hostTest('repair says what is gone or cannot be repaired, and repairs the rest', async (host) => {
  const place = await prepare(host)
  place.c1.sh('ip link set eth0 down; ip link set eth0 name other')
  host.sh('ip netns del c3; ip link del br-net')
  await eventually('the pair of c3 is gone', () => !host.sh('ip -br link').includes('br-other') || !/tsn\w+.*br-other/.test(host.sh('ip link')))
  const { status, stdout, stderr } = host.run([TSNET, 'repair'])
  assert.equal(status, 1)
  assert.match(stderr, /^tsnet: Cannot repair everything: Cannot repair "net\/c1:eth0": only one of [^\n]+ Hint: Somebody renamed[^\n]+\n$/)
  assert.match(stdout, /^-\t-\tnet\trepaired\tthe bridge "br-net"$/m)
  assert.match(stdout, /^c1\teth0\tnet\tfailed\t/m)
  assert.match(stdout, /^c2\teth0\tnet\trepaired\t.*port of "br-net"$/m)
  assert.match(stdout, /^c3\teth0\tother\tgone\t.*tsnet gc/m)
  place.c1.sh('ip link set other name eth0')
  assert.equal((JSON.parse(repair(host, '--json', '--network', 'net')) as { verdict: string }[])[0]?.verdict, 'repaired')
  await assertConnected(place)
})

hostTest('repair leaves an address and a port with whoever has them by now', async (host) => {
  const { c1 } = await prepare(host)
  host.sh("sed -i 's/ c1:eth0 / c9:eth0 /' /run/tsnet/networks/net/subnet; rm -r /run/tsnet/ports")
  host.mustCni('ADD', {
    id: 'c4',
    netns: host.container('c4'),
    runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] },
  })
  const before = bookOf(host)
  const { status, stdout } = host.run([TSNET, 'repair', '--network', 'net', '--dry-run'])
  assertSame(bookOf(host), before, 'a dry run changed something')
  assert.equal(status, 1)
  assert.match(stdout, /^c1\teth0\tnet\tfailed\tCannot repair "net\/c1:eth0": it lacks the lease of 10\.50\.0\.2\/24, which "c9:eth0" has now$/m)
  const repaired = host.run([TSNET, 'repair', '--network', 'net'])
  assert.match(repaired.stdout, /^c1\teth0\tnet\tfailed\tCannot publish 0\.0\.0\.0:8080\/tcp: attachment "net\/c4:eth0" has it$/m)
  assert.match(repaired.stdout, /^c1\teth0\tnet\trepaired\tthe claim on 0\.0\.0\.0:8080\/udp$/m)
  assert.match(repaired.stdout, /^c2\teth0\tnet\trepaired\tthe claim on 0\.0\.0\.0:8081\/tcp$/m)
  assert.equal(
    host.cni('ADD', { id: 'c5', netns: c1, runtimeConfig: { portMappings: [{ hostPort: 8081, containerPort: 80, protocol: 'tcp' }] } }).json.code,
    103,
  )
})

hostTest("repair brings our first rule back in front, and leaves a person's rule in front of it where it is", async (host) => {
  await prepare(host)
  host.sh('iptables -I FORWARD -s 192.0.2.1 -j DROP')
  assert.match(repair(host, '--network', 'net'), /^(c\d\teth0\tnet\tok\t-\n)+$/)
  const order = () =>
    host
      .sh('iptables -S FORWARD')
      .split('\n')
      .filter((line) => line.startsWith('-A'))
  assert.deepEqual(order(), ['-A FORWARD -s 192.0.2.1/32 -j DROP', '-A FORWARD -j TSNET-FORWARD'])
  host.sh('iptables -D FORWARD -j TSNET-FORWARD')
  repair(host, '--network', 'net')
  assert.deepEqual(order(), ['-A FORWARD -j TSNET-FORWARD', '-A FORWARD -s 192.0.2.1/32 -j DROP'])
})

hostTest('while one container is repaired, another loses no packet, and ADD and DEL go on', async (host) => {
  const { c1, c2 } = await prepare(host)
  const ping = c2.start(['ping', '-q', '-i', '0.005', '-w', '4', ADDRESSES[4].far])
  let report = ''
  ping.stdout?.on('data', (data) => {
    report += data
  })
  const ended = new Promise((resolve) => ping.once('close', resolve))
  const churn = ['a', 'b', 'c'].map(async (id, i) => {
    const netns = host.container(id)
    for (let round = 0; round < 3; round++) {
      const added = await host.cniAsync('ADD', { id, netns, runtimeConfig: ports(9000 + i) })
      assert.equal(added.status, 0, added.stdout)
      assert.equal((await host.cniAsync('DEL', { id, netns })).status, 0)
    }
  })
  for (let round = 0; round < 4; round++) {
    c1.sh('ip link set eth0 down')
    host.sh('iptables-save | grep "c1:eth0" | sed "s/^-A/iptables -t nat -D/" | sh -e')
    assert.match(repair(host), /^c1\teth0\tnet\trepaired\t"eth0" up/m)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  await Promise.all(churn)
  await ended
  assert.match(report, / 0% packet loss/)
  for (const id of ['c1', 'c2']) host.mustCni('CHECK', { id, netns: `/run/netns/${id}`, prevResult: {} })
  for (const id of ['c1', 'c2']) host.mustCni('DEL', { id })
  host.mustCni('DEL', { id: 'c3', conf: OTHER })
  assertNothingLeft(host)
})
