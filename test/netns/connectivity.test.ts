import assert from 'node:assert/strict'
import { ADDRESSES, addressIn, type Container, DUAL_STACK, type Host, hostTest } from './host.ts'
import { assertNothingLeft } from './state.ts'
import type { TransportProtocol } from './talker.ts'

const PORT = 80
const FAMILIES = [4, 6] as const
const PROTOCOLS = ['tcp', 'udp'] as const

hostTest('a container reaches its neighbour as itself, and the outside with the address of the host', async (host, t) => {
  const [web, neighbour] = [host.container('web'), host.container('neighbour')]
  const attached = host.mustCni('ADD', { id: 'web', netns: web })
  const beside = host.mustCni('ADD', { id: 'neighbour', netns: neighbour })
  for (const family of FAMILIES) {
    for (const protocol of PROTOCOLS) {
      const endpoint = { protocol, address: addressIn(attached, family), port: PORT }
      await web.talker.serve(endpoint, 'web')
      await t.test(`${protocol} over IPv${family}: from neighbour to container`, async () => {
        assert.equal((await neighbour.talker.ask(endpoint)).peer, addressIn(beside, family))
      })
      await t.test(`${protocol} over IPv${family}: from container to outside`, () => out(host, web, { protocol, family, far: ADDRESSES[family].far }))
    }
  }
  for (const { name } of [web, neighbour]) host.mustCni('DEL', { id: name })
  assertNothingLeft(host)
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
