import assert from 'node:assert/strict'
import { ADDRESSES, addressIn, type Host, hostTest } from './host.ts'
import { Sniffer } from './sniff.ts'

/** A network that is up already, so that one can listen on its bridge before the ADD of interest. */
function standingNetwork(host: Host): void {
  host.mustCni('ADD', { id: 'first', netns: host.container('first') })
}

hostTest("the bridge carries the container's frames with its own MAC and address", async (host, t) => {
  standingNetwork(host)
  const container = host.container('c1')
  const result = host.mustCni('ADD', { netns: container })
  const mac = result.interfaces?.find(({ name }) => name === 'eth0')?.mac ?? 'none'
  const sniffer = await Sniffer.start(host, 'br-net', 'udp port 9000')
  t.after(() => sniffer.stop())
  for (const family of [4, 6] as const) {
    const endpoint = { protocol: 'udp', address: ADDRESSES[family].far, port: 9000 } as const
    await host.outside.talker.serve(endpoint, 'far')
    await container.talker.ask(endpoint)
    const line = await sniffer.line(new RegExp(`${mac} > .* ${addressIn(result, family)}\\.\\d+ > `))
    assert.match(line, new RegExp(`${ADDRESSES[family].far}\\.9000`))
  }
})

hostTest('ADD sends a gratuitous ARP for the new address', async (host, t) => {
  standingNetwork(host)
  const sniffer = await Sniffer.start(host, 'br-net', 'arp')
  t.after(() => sniffer.stop())
  const result = host.mustCni('ADD', { netns: host.container('c1') })
  const own = addressIn(result, 4)
  const mac = result.interfaces?.find(({ name }) => name === 'eth0')?.mac ?? 'none'
  assert.match(await sniffer.line(new RegExp(`(who-has|Request).*${own} .*tell ${own}|Reply ${own}`)), new RegExp(`^${mac} > ff:ff:ff:ff:ff:ff`))
})

hostTest('ADD sends an unsolicited neighbour advertisement for the new address', async (host, t) => {
  standingNetwork(host)
  const sniffer = await Sniffer.start(host, 'br-net', 'icmp6 and ip6[40] = 136')
  t.after(() => sniffer.stop())
  const own = addressIn(host.mustCni('ADD', { netns: host.container('c1') }), 6)
  await sniffer.line(new RegExp(`${own} > ff02::1:.*neighbor advertisement.*tgt is ${own}`))
})

hostTest('a neighbour that knew the address under another MAC finds the new container at once', async (host) => {
  const [former, neighbour, successor] = ['former', 'neighbour', 'successor'].map((name) => host.container(name))
  if (former === undefined || neighbour === undefined || successor === undefined) throw new Error('There are three containers')
  host.mustCni('ADD', { id: 'neighbour', netns: neighbour })
  const wish = { args: 'IP=10.50.0.77,fd00:50::77' }
  for (const container of [former, successor]) {
    host.mustCni('ADD', { id: container.name, netns: container, ...wish })
    for (const address of ['10.50.0.77', 'fd00:50::77']) {
      await container.talker.serve({ protocol: 'tcp', address, port: 80 }, container.name)
      assert.equal((await neighbour.talker.ask({ protocol: 'tcp', address, port: 80 })).name, container.name)
    }
    host.mustCni('DEL', { id: container.name, netns: container })
  }
})
