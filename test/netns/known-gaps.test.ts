/** What a user would expect and does not get yet. Each runs, and says so when it has come true. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { ADDRESSES, DUAL_STACK, hostTest } from './host.ts'
import { assertNothingLeft } from './state.ts'

const runtimeConfig = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] }

hostTest(
  "podman network connect: a container's second network may name the ports that the first publishes already",
  (host) => {
    const netns = host.container('c1')
    host.mustCni('ADD', { netns, runtimeConfig })
    const conf = { ...DUAL_STACK, name: 'other', bridge: 'br-other', ipam: { subnet: '10.51.0.0/24' } }
    assert.equal(host.cni('ADD', { netns, ifname: 'eth1', conf, runtimeConfig }).json.code, undefined)
  },
  { todo: 'refused with code 103, so podman cannot connect a container with published ports to a second network' },
)

hostTest(
  'an ADD without published ports brings back rules that somebody flushed',
  async (host) => {
    host.mustCni('ADD', { id: 'standing', netns: host.container('standing') })
    host.sh('for n in raw nat filter; do iptables -t $n -F; iptables -t $n -X; done')
    const container = host.container('c1')
    host.mustCni('ADD', { netns: container })
    const endpoint = { protocol: 'tcp', address: ADDRESSES[4].far, port: 9000 } as const
    await host.outside.talker.serve(endpoint, 'far')
    assert.equal((await container.talker.ask({ ...endpoint, timeoutMs: 1000 })).peer, ADDRESSES[4].host)
  },
  { todo: 'an ADD without ports writes no rules, so it does not find out; CHECK does' },
)

hostTest(
  "DEL removes bridge and rules when the network's record is garbage",
  (host) => {
    const netns = host.container('c1')
    host.mustCni('ADD', { netns, runtimeConfig })
    writeFileSync(host.machine.path('/run/tsnet/networks/net/network.json'), 'x')
    host.mustCni('DEL', { netns })
    assertNothingLeft(host)
  },
  { todo: 'bridge and network rules stay: only that record knows whether the bridge is ours' },
)
