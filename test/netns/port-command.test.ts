/** `tsnet port`: changes of what a running container publishes. */
import assert from 'node:assert/strict'
import { ADDRESSES, DUAL_STACK, type Host, hostTest, TSNET } from './host.ts'
import { assertNothingLeft, assertSame, bookOf, rulesOf, snapshot } from './state.ts'

const web = { id: 'web', netns: '/run/netns/web', conf: DUAL_STACK }
const publish = (hostPort: number, containerPort = 80, protocol = 'tcp') => ({ portMappings: [{ hostPort, containerPort, protocol }] })

function refused(host: Host, ...args: readonly string[]): string {
  // Links come to carry at a moment of their own.
  const before = { rules: rulesOf(host), book: bookOf(host) }
  const { status, stderr } = host.run([TSNET, 'port', ...args])
  assert.equal(status, 1, `tsnet port ${args.join(' ')}`)
  assertSame({ rules: rulesOf(host), book: bookOf(host) }, before, 'a refused command changed something')
  return stderr.trimEnd()
}

async function asks(host: Host, port: number, protocol: 'tcp' | 'udp' = 'tcp'): Promise<string> {
  const question = { protocol, address: ADDRESSES[4].host, port, timeoutMs: 1000 }
  return host.outside.talker.ask(question).then(
    ({ name, port: reached }) => `${name} ${reached}`,
    (error: Error) => error.message,
  )
}

hostTest('tsnet port add, ls and rm change what is reached, and DEL leaves nothing', async (host, t) => {
  const container = host.container('web')
  const prevResult = host.mustCni('ADD', { ...web, runtimeConfig: publish(8080) })
  const address = prevResult.ips?.[0]?.address.replace(/\/.*/, '')
  for (const port of [80, 443]) await container.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port }, 'web')
  const before = snapshot(host)

  const added = host.exec([TSNET, 'port', 'add', 'web', '-p', '8443:443', '-p', '127.0.0.1::443'])
  assert.match(
    added,
    new RegExp(`^tcp://0\\.0\\.0\\.0:8443 -> ${address}:443\\ntcp://\\[::\\]:8443 -> \\[fd00.*\\]:443\\ntcp://127\\.0\\.0\\.1:\\d+ -> `),
  )
  assert.deepEqual([await asks(host, 8080), await asks(host, 8443)], ['web 80', 'web 443'])
  host.mustCni('CHECK', { ...web, prevResult })
  await t.test('ls', () => {
    const lines = host.exec([TSNET, 'port', 'ls', 'web']).trimEnd().split('\n')
    assert.equal(lines.length, 5)
    assert.equal(lines[0], `net\teth0\ttcp\t0.0.0.0:8080\t${address}:80\tall`)
    const [listed] = JSON.parse(host.exec([TSNET, 'port', 'ls', 'web', '--json']))
    assert.deepEqual([listed.network, listed.containerID, listed.ifname, listed.ports.length], ['net', 'web', 'eth0', 5])
  })
  await t.test('what is published already stays, and its rules are made good', () => {
    const standing = snapshot(host)
    host.exec([TSNET, 'port', 'add', 'web', '-p', '8443:443'])
    assertSame(snapshot(host), standing, 'a second add changed something')
    host.sh('iptables -t nat -F TSNET-DNAT')
    assert.match(host.exec([TSNET, 'port', 'add', 'web', '-p', '8443:443', '--json']), /"hostPort": 8443/)
    assert.match(rulesOf(host), /--dport 8443 /)
    host.exec([TSNET, 'port', 'add', 'web', '-p', '8080:80', '-p', '127.0.0.1:1:443', '-p', '8443:443'])
    host.exec([TSNET, 'port', 'rm', 'web', '-p', '127.0.0.1:1:443'])
  })
  await t.test('rm', async () => {
    const [gone] = JSON.parse(host.exec([TSNET, 'port', 'rm', 'web', '-p', '443', '--json']))
    assert.equal(gone.ports.length, 3)
    assert.deepEqual(
      [await asks(host, 8080), await asks(host, 8443)],
      ['web 80', 'connect ECONNREFUSED 10.99.0.1:8443'].map((text) => text.replace(/^connect (E\w+).*/, '$1')),
    )
    assertSame(snapshot(host), before, 'something is left of the ports')
    host.mustCni('CHECK', { ...web, prevResult })
  })
  host.mustCni('DEL', web)
  assertNothingLeft(host)
})

hostTest('tsnet port refuses what cannot be, and changes nothing', async (host) => {
  host.container('web')
  host.container('other')
  host.mustCni('ADD', { ...web, runtimeConfig: publish(8080) })
  host.mustCni('ADD', { ...web, id: 'other', netns: '/run/netns/other', runtimeConfig: publish(8081) })
  await host.talker.serve({ protocol: 'tcp', address: '127.0.0.1', port: 9000 }, 'host')
  assert.match(refused(host, 'add', 'web', '-p', '8081:80'), /8081\/tcp: attachment "net\/other:eth0" has it/)
  assert.match(refused(host, 'add', 'web', '-p', '8082:80', '-p', '9000:80'), /9000\/tcp: a process on the host has it; It is /)
  assert.match(refused(host, 'add', 'web', '-p', '8080:81'), /8080\/tcp: attachment "net\/web:eth0" itself has it/)
  assert.match(refused(host, 'add', 'web', '-p', '192.0.2.1:8082:80'), /the host has no address 192\.0\.2\.1/)
  assert.match(refused(host, 'rm', 'web', '-p', '8081:80'), /"8081:80": "web" does not publish it\. Hint: tsnet port ls/)
  assert.match(refused(host, 'rm', 'web', '-p', '8080:80', '-p', '127.0.0.1:8080:80'), /does not publish it/)
  assert.match(refused(host, 'add', 'nobody', '-p', '1:1'), /nothing is attached to it/)
  const conf = { ...DUAL_STACK, name: 'second', bridge: 'br-second', ipam: { subnet: '10.51.0.0/24' } }
  host.mustCni('ADD', { ...web, conf, ifname: 'eth1' })
  assert.match(refused(host, 'add', 'web', '-p', '8443:443'), /which interface of "web" shall publish: it has eth0 in net, eth1 in second/)
  assert.match(refused(host, 'add', 'web', '--ifname', 'eth1', '-p', '8080:80'), /another interface of the container has it/)
  assert.match(host.exec([TSNET, 'port', 'add', 'web', '--network', 'second', '-p', '8443:443']), /8443 -> 10\.51\.0\.2:443/)
  for (const [ifname, one] of [
    ['eth1', conf],
    ['eth0', DUAL_STACK],
  ] as const)
    host.mustCni('DEL', { ...web, ifname, conf: one })
  host.mustCni('DEL', { ...web, id: 'other' })
  assertNothingLeft(host)
})

hostTest('a UDP client that goes on sending follows the port to its new owner', async (host) => {
  const [first, second] = [host.container('web'), host.container('other')]
  host.mustCni('ADD', web)
  host.mustCni('ADD', { ...web, id: 'other', netns: second })
  for (const container of [first, second]) await container.talker.serve({ protocol: 'udp', address: '0.0.0.0', port: 53 }, container.name)
  const ask = (expect: string) => host.outside.talker.ask({ protocol: 'udp', address: ADDRESSES[4].host, port: 5353, localPort: 40000, expect })
  host.exec([TSNET, 'port', 'add', 'web', '-p', '5353:53/udp'])
  await ask('web')
  host.exec([TSNET, 'port', 'rm', 'web', '-p', '5353:53/udp'])
  host.exec([TSNET, 'port', 'add', 'other', '-p', '5353:53/udp'])
  await ask('other')
})

hostTest('tsnet port changes rules that are in nf_tables', async (host) => {
  const container = host.container('web')
  const call = { ...web, conf: { ...DUAL_STACK, backend: 'nftables' } }
  const prevResult = host.mustCni('ADD', { ...call, runtimeConfig: publish(8080) })
  for (const port of [80, 443]) await container.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port }, 'web')
  host.exec([TSNET, 'port', 'add', 'web', '-p', '8443:443'])
  host.exec([TSNET, 'port', 'add', 'web', '-p', '8443:443'])
  assert.deepEqual([await asks(host, 8080), await asks(host, 8443)], ['web 80', 'web 443'])
  host.mustCni('CHECK', { ...call, prevResult })
  host.exec([TSNET, 'port', 'rm', 'web', '-p', '8080:80'])
  assert.deepEqual([await asks(host, 8080), await asks(host, 8443)], ['ECONNREFUSED', 'web 443'])
  host.mustCni('CHECK', { ...call, prevResult })
  host.mustCni('DEL', call)
  assertNothingLeft(host)
})
