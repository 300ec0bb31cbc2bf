import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ADDRESSES, addressIn, type Container, DUAL_STACK, Host, hostTest } from './host.ts'
import { requireTools } from './machine.ts'
import { assertNothingLeft } from './state.ts'
import type { Answer, TransportProtocol } from './talker.ts'

const HOST_PORT = 8080
const PORT = 80
const FAMILIES = [4, 6] as const
const PROTOCOLS = ['tcp', 'udp'] as const

const anyAddress = (family: 4 | 6) => (family === 4 ? '0.0.0.0' : '::')
const portMappings = PROTOCOLS.map((protocol) => ({ hostPort: HOST_PORT, containerPort: PORT, protocol }))

/** Both protocols and both families on one port. */
async function serve(container: Container): Promise<void> {
  for (const family of FAMILIES) {
    for (const protocol of PROTOCOLS) await container.talker.serve({ protocol, address: anyAddress(family), port: PORT }, container.name)
  }
}

test('a published port and the way out', { skip: process.getuid?.() === 0 ? false : 'Network namespaces need root' }, async (t) => {
  requireTools()
  const host = await Host.start()
  t.after(() => host.stop())
  const [web, neighbour] = [host.container('web'), host.container('neighbour')]
  const attached = host.mustCni('ADD', { id: 'web', netns: web, runtimeConfig: { portMappings } })
  const beside = host.mustCni('ADD', { id: 'neighbour', netns: neighbour })
  await serve(web)
  for (const family of FAMILIES) {
    const { outside, host: hostAddress, second, loopback, far: farAddress } = ADDRESSES[family]
    const own = addressIn(attached, family)
    const gateway = attached.ips?.find(({ address }) => address.startsWith(own))?.gateway
    for (const protocol of PROTOCOLS) {
      const check = async (from: Host | Container | Host['outside'], address: string, peer: string | undefined) => {
        const answer: Answer = await from.talker.ask({ protocol, address, port: HOST_PORT })
        assert.equal(answer.name, 'web')
        assert.equal(answer.port, PORT)
        if (peer !== undefined) assert.equal(answer.peer, peer)
      }
      const name = `${protocol} over IPv${family}`
      await t.test(`${name}: from outside, and the container sees the client's own address`, () => check(host.outside, hostAddress, outside))
      await t.test(`${name}: from outside by the host's second address`, () => check(host.outside, second, outside))
      await t.test(`${name}: from the host by its own address`, () => check(host, hostAddress, undefined))
      await t.test(`${name}: from the container itself (hairpin)`, () => check(web, hostAddress, gateway))
      await t.test(`${name}: from its neighbour`, () => check(neighbour, hostAddress, undefined))
      await t.test(`${name}: from its neighbour by the gateway's address`, () => check(neighbour, gateway ?? '', undefined))
      await t.test(`${name}: without the host's part, from neighbour to container`, async () => {
        const answer = await neighbour.talker.ask({ protocol, address: own, port: PORT })
        assert.equal(answer.peer, addressIn(beside, family))
      })
      // The kernel has no route_localnet for IPv6: a packet from ::1 never leaves lo, with Docker neither.
      if (family === 4) await t.test(`${name}: from the host by ${loopback}`, () => check(host, loopback, gateway))
      await t.test(`${name}: the container reaches outside, which sees the host's address`, () =>
        out(host, web, { protocol, family, far: farAddress }),
      )
    }
  }
  await t.test('IPv6 by ::1 is refused rather than lost, so that "localhost" falls back to 127.0.0.1', () =>
    assert.rejects(host.talker.ask({ protocol: 'tcp', address: '::1', port: HOST_PORT }), { message: 'ECONNREFUSED' }),
  )
  await t.test('DEL leaves nothing', () => {
    for (const container of [web, neighbour]) host.mustCni('DEL', { id: container.name, netns: container })
    assertNothingLeft(host)
  })
})

interface WayOut {
  readonly protocol: TransportProtocol
  readonly family: 4 | 6
  readonly far: string
}

async function out(host: Host, container: Container, { protocol, family, far }: WayOut): Promise<void> {
  const endpoint = { protocol, address: far, port: 9000 }
  await host.outside.talker.serve(endpoint, 'far')
  const answer = await container.talker.ask(endpoint)
  assert.equal(answer.name, 'far')
  assert.equal(answer.peer, ADDRESSES[family].host)
}

hostTest('ipMasq false: the outside sees the container itself', async (host) => {
  const container = host.container('c1')
  const result = host.mustCni('ADD', { netns: container, conf: { ...DUAL_STACK, ipMasq: false } })
  host.outside.sh('ip route add 10.50.0.0/24 via 10.99.0.1; ip -6 route add fd00:50::/64 via fd00:99::1')
  for (const family of FAMILIES) {
    const endpoint = { protocol: 'tcp', address: ADDRESSES[family].far, port: 9000 } as const
    await host.outside.talker.serve(endpoint, 'far')
    assert.equal((await container.talker.ask(endpoint)).peer, addressIn(result, family))
  }
})

hostTest('an address that ADD reports can be used at once: no duplicate address detection is waited for', async (host) => {
  const endpoint = { protocol: 'tcp', address: ADDRESSES[6].far, port: 9000 } as const
  await host.outside.talker.serve(endpoint, 'far')
  const container = host.container('c1')
  host.mustCni('ADD', { netns: container })
  const [link] = container.json<{ addr_info: { tentative?: boolean; local: string }[] }>('ip', '-j', '-6', 'addr', 'show', 'dev', 'eth0')
  assert.deepEqual(
    link?.addr_info.filter(({ tentative }) => tentative === true),
    [],
  )
  assert.equal((await container.talker.ask(endpoint)).name, 'far')
})
