import assert from 'node:assert/strict'
import { ADDRESSES, DUAL_STACK, type Host, hostTest } from './host.ts'
import { useLegacyIptables } from './iptables-variant.ts'
import { PUBLICATIONS, rowsOf, STACKS } from './matrix.ts'
import { checkMatrix } from './matrix-measure.ts'

const VARIANTS = DUAL_STACK.backend === 'iptables' ? ['iptables-nft', 'iptables-legacy'] : [DUAL_STACK.backend]
const HOST_PORT = 8080

for (const variant of VARIANTS) {
  hostTest(`who reaches a published port of TCP and UDP, and whom the server hears (${variant})`, (host, t) => {
    if (variant === 'iptables-legacy' && !useLegacyIptables(host)) return t.skip('The kernel has no legacy iptables')
    return checkMatrix(host, t, ['tcp', 'udp'])
  })
}

hostTest('a port on a host address of a family that the network lacks is refused', (host) => {
  const netns = host.container('c1')
  for (const { name, conf, ...stack } of STACKS) {
    const published = rowsOf({ name, conf, ...stack })
    for (const { name: _, family, ...mapping } of PUBLICATIONS.filter((row) => !published.includes(row))) {
      const { json } = host.cni('ADD', { netns, conf, runtimeConfig: { portMappings: [{ ...mapping, protocol: 'tcp' }] } })
      assert.deepEqual([json.code, json.msg], [7, `Cannot publish port ${mapping.hostPort}: the attachment has no IPv${family} address`])
    }
  }
})

/** Opens what a firewall of tsnet's closes, to show that it is this that closes it. */
function openGuard(host: Host): void {
  host.exec(DUAL_STACK.backend === 'iptables' ? ['iptables', '-t', 'raw', '-F', 'TSNET-RAW'] : ['nft', 'flush', 'chain', 'inet', 'tsnet', 'guard'])
}

hostTest('a port on 127.0.0.1 is closed to machines and containers that send packets for 127.0.0.1 to the host', async (host) => {
  const [web, neighbour] = [host.container('web'), host.container('neighbour')]
  const portMappings = [{ hostPort: HOST_PORT, containerPort: 80, protocol: 'tcp', hostIP: '127.0.0.1' }]
  host.mustCni('ADD', { id: 'web', netns: web, runtimeConfig: { portMappings } })
  host.mustCni('ADD', { id: 'neighbour', netns: neighbour })
  await web.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port: 80 }, 'web')
  const senders = [
    { from: host.outside, link: 'uplink', by: ADDRESSES[4].host, localAddress: ADDRESSES[4].outside },
    { from: neighbour, link: 'eth0', by: '10.50.0.1', localAddress: '10.50.0.3' },
  ]
  const ask = ({ from, localAddress }: (typeof senders)[number], timeoutMs: number) =>
    from.talker.ask({ protocol: 'tcp', address: '127.0.0.1', port: HOST_PORT, localAddress, timeoutMs })
  for (const { from, link, by } of senders) {
    from.sh(`echo 1 > /proc/sys/net/ipv4/conf/${link}/route_localnet; ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1/32 via ${by}`)
  }
  for (const sender of senders) await assert.rejects(ask(sender, 300), { message: 'no answer' })
  openGuard(host)
  for (const sender of senders) assert.equal((await ask(sender, 3000)).name, 'web')
})
