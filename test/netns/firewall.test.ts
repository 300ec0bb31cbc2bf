import assert from 'node:assert/strict'
import { ADDRESSES, type Container, type Host, hostTest } from './host.ts'
import { useLegacyIptables } from './iptables-variant.ts'
import { assertNothingLeft, rulesOf } from './state.ts'

const FAMILIES = [4, 6] as const
const portMappings = [
  { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
  { hostPort: 8080, containerPort: 80, protocol: 'udp' },
]

/** A person's firewall: chains, jumps before and after, odd comments, tables that tsnet does not know. */
const RULES = [
  '-t filter -N USER-CHAIN',
  '-t filter -A USER-CHAIN -p tcp --dport 22 -j ACCEPT',
  '-t filter -A FORWARD -j USER-CHAIN',
  '-t filter -A FORWARD -p udp --dport 4789 -j DROP',
  '-t filter -A INPUT -i lo -m comment --comment TSNET-not-ours -j ACCEPT',
  '-t nat -A POSTROUTING -o uplink -p tcp --dport 25 -j MASQUERADE',
  '-t nat -A PREROUTING -p tcp --dport 2222 -j REDIRECT --to-ports 22',
  '-t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu',
  '-t raw -A PREROUTING -p udp --dport 53 -j ACCEPT',
]

function userFirewall(host: Host): void {
  for (const rule of RULES) for (const tool of ['iptables', 'ip6tables']) host.exec([tool, ...rule.split(' ')])
}

async function reachable(host: Host, container: Container): Promise<void> {
  for (const family of FAMILIES) {
    for (const protocol of ['tcp', 'udp'] as const) {
      await container.talker.serve({ protocol, address: family === 4 ? '0.0.0.0' : '::', port: 80 }, 'web')
      await host.outside.talker.serve({ protocol, address: ADDRESSES[family].far, port: 9000 }, 'far')
      assert.equal((await host.outside.talker.ask({ protocol, address: ADDRESSES[family].host, port: 8080 })).name, 'web')
      assert.equal((await container.talker.ask({ protocol, address: ADDRESSES[family].far, port: 9000 })).name, 'far')
    }
  }
}

for (const variant of ['nft', 'legacy'] as const) {
  hostTest(`under FORWARD policy DROP ports answer and containers reach out (iptables-${variant})`, async (host, t) => {
    if (variant === 'legacy' && !useLegacyIptables(host)) return t.skip('The kernel has no legacy iptables')
    for (const tool of ['iptables', 'ip6tables']) host.exec([tool, '-P', 'FORWARD', 'DROP'])
    const container = host.container('c1')
    host.mustCni('ADD', { netns: container, runtimeConfig: { portMappings } })
    await reachable(host, container)
    host.mustCni('DEL', { netns: container })
    assertNothingLeft(host)
    assert.match(host.exec(['iptables', '-S', 'FORWARD']), /^-P FORWARD DROP/)
  })

  hostTest(`a person's rules and other tables are the same lines before, during and after (iptables-${variant})`, async (host, t) => {
    if (variant === 'legacy' && !useLegacyIptables(host)) return t.skip('The kernel has no legacy iptables')
    userFirewall(host)
    host.sh('nft add table inet mine; nft add chain inet mine c "{ type filter hook forward priority 5; }"; nft add rule inet mine c counter accept')
    const others = () => host.exec(['nft', '-s', 'list', 'table', 'inet', 'mine'])
    const before = { rules: rulesOf(host), others: others() }
    const container = host.container('c1')
    host.mustCni('ADD', { netns: container, runtimeConfig: { portMappings } })
    const during = rulesOf(host).split('\n')
    for (const line of before.rules.split('\n')) assert.ok(during.includes(line), `lost: ${line}`)
    const own = during.filter((line) => !before.rules.split('\n').includes(line))
    assert.deepEqual(
      own.filter((line) => !/TSNET-|^\*/.test(line)),
      [],
    )
    await reachable(host, container)
    host.mustCni('DEL', { netns: container })
    assert.deepEqual({ rules: rulesOf(host), others: others() }, before)
  })
}

hostTest('only published ports are open: the outside cannot reach a container by its address', async (host) => {
  const container = host.container('c1')
  host.mustCni('ADD', { netns: container })
  host.outside.sh('ip route add 10.50.0.0/24 via 10.99.0.1; ip -6 route add fd00:50::/64 via fd00:99::1')
  for (const [address, any] of [['10.50.0.2', '0.0.0.0'] as const, ['fd00:50::2', '::'] as const]) {
    await container.talker.serve({ protocol: 'tcp', address: any, port: 80 }, 'web')
    assert.equal((await host.talker.ask({ protocol: 'tcp', address, port: 80 })).name, 'web')
    await assert.rejects(host.outside.talker.ask({ protocol: 'tcp', address, port: 80, timeoutMs: 300 }))
  }
})

hostTest("a container cannot reach the host's services on 127.0.0.1 though the bridge routes loopback addresses", async (host) => {
  const container = host.container('c1')
  host.mustCni('ADD', { netns: container, runtimeConfig: { portMappings } })
  await host.talker.serve({ protocol: 'tcp', address: '127.0.0.1', port: 9000 }, 'secret')
  container.sh('echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1/32 via 10.50.0.1')
  const question = { protocol: 'tcp', address: '127.0.0.1', port: 9000, localAddress: '10.50.0.2', timeoutMs: 300 } as const
  await assert.rejects(container.talker.ask(question))
  // The proof that the way is there and that it is our rule that closes it.
  host.exec(['iptables', '-t', 'raw', '-F', 'TSNET-RAW'])
  assert.equal((await container.talker.ask({ ...question, timeoutMs: 3000 })).name, 'secret')
})

hostTest('rules that somebody flushed come back with the next ADD', async (host) => {
  const container = host.container('c1')
  host.mustCni('ADD', { netns: container })
  host.sh('for t in iptables ip6tables; do for n in raw nat filter; do $t -t $n -F; $t -t $n -X; done; done')
  const next = host.container('c2')
  host.mustCni('ADD', { id: 'c2', netns: next, runtimeConfig: { portMappings } })
  await reachable(host, next)
  for (const id of ['c1', 'c2']) host.mustCni('DEL', { id })
  assertNothingLeft(host)
})

hostTest('DEL removes rules that a reload of the firewall doubled', (host) => {
  const container = host.container('c1')
  host.mustCni('ADD', { netns: container, runtimeConfig: { portMappings } })
  for (const tool of ['iptables', 'ip6tables']) host.exec([`${tool}-restore`, '--noflush'], { input: host.exec([`${tool}-save`]) })
  host.mustCni('DEL', { netns: container })
  assertNothingLeft(host)
})
