import assert from 'node:assert/strict'
import { ADDRESSES, hostTest } from './host.ts'
import { skipsWithout } from './kernel-feature.ts'

const publish = (hostIPs: readonly string[], range: number) => ({
  portMappings: hostIPs.map((hostIP) => ({ hostPort: 8000, containerPort: 8000, protocol: 'sctp', hostIP, range })),
})

hostTest('a port of SCTP that a process on the host has is refused with its name, on the addresses that it listens on', async (host, t) => {
  if (skipsWithout('SCTP', host, t)) return
  const netns = host.container('c1')
  const addresses = [ADDRESSES[4].host, ADDRESSES[6].host]
  for (const address of addresses) await host.talker.serve({ protocol: 'sctp', address, port: 8000 }, 'host')
  for (const address of addresses) {
    // A long range is looked up in the socket tables.
    for (const range of [1, 301]) {
      const { json } = host.cni('ADD', { netns, runtimeConfig: publish([address], range) })
      assert.equal(json.code, 103)
      assert.match(json.details ?? '', /^It is "node", process \d+/)
    }
  }
  host.mustCni('ADD', { netns, runtimeConfig: publish([ADDRESSES[4].second, ADDRESSES[6].second], 1) })
})
