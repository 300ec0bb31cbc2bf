/** How much a caller may send: up to the limit it works, beyond it is refused, by one shot and by the agent. */
import assert from 'node:assert/strict'
import { startAgent } from './agent-process.ts'
import { type CniCall, DUAL_STACK, type Host, hostTest } from './host.ts'
import { assertNothingLeft, assertRefused, assertSame, snapshot } from './state.ts'

const MIB = 1024 * 1024
const LONG = 64 * 1024
/** A message and details of 4 KiB each. */
const LONGEST_ANSWER = 9000
const CONF = { ...DUAL_STACK, backend: 'nftables' }

/** @returns The configuration in exactly so many bytes. */
function filled(bytes: number): string {
  const empty = JSON.stringify({ ...CONF, filler: '' }).length
  return JSON.stringify({ ...CONF, filler: 'x'.repeat(bytes - empty) })
}

function assertLimits(host: Host): void {
  const netns = '/run/netns/c1'
  const refused = (command: string, call: CniCall, code: number) => {
    const { json, stdout } = host.cni(command, call)
    assert.equal(json.code, code, stdout.slice(0, 1000))
    assert.ok(stdout.length < LONGEST_ANSWER, `an answer of ${stdout.length} characters`)
    return json.msg ?? ''
  }
  host.mustCni('ADD', { netns, conf: filled(MIB) })
  host.mustCni('DEL', { netns, conf: filled(MIB) })
  const before = snapshot(host, { kernelOnly: true })
  for (const command of ['ADD', 'DEL', 'GC']) {
    assert.match(refused(command, { netns, conf: filled(MIB + 1) }, 6), /longer than 1 MiB/)
  }
  const x = 'x'.repeat(LONG)
  for (const [code, call] of [
    [4, { netns, id: x }],
    [4, { netns, ifname: x }],
    [8, { netns: `/run/netns/${x}` }],
    [7, { netns, conf: { ...CONF, name: x } }],
    [7, { netns, conf: { ...CONF, bridge: x } }],
    [7, { netns, args: `IgnoreUnknown=1;IP=${x}` }],
    [4, { netns, args: x }],
    [7, { netns, conf: { ...CONF, ipam: { subnet: x } } }],
    [7, { netns, runtimeConfig: { portMappings: [{ hostPort: 80, containerPort: 80, protocol: x }] } }],
    [7, { netns, runtimeConfig: { mac: x } }],
  ] as const)
    refused('ADD', { conf: CONF, ...call }, code)
  assertSame(snapshot(host, { kernelOnly: true }), before, 'a refused call changed something')
  // What nobody looks at may be long.
  host.mustCni('ADD', { netns, conf: CONF, args: `IgnoreUnknown=1;K8S_POD_NAME=${x}` })
  host.mustCni('DEL', { netns, conf: CONF, args: x })
}

hostTest('a configuration of 1 MiB, and names of 64 KiB, hold in one shot', (host) => {
  host.container('c1')
  assertLimits(host)
  assertNothingLeft(host)
})

hostTest('a configuration of 1 MiB, and names of 64 KiB, hold with the agent', async (host) => {
  await startAgent(host)
  host.container('c1')
  assertLimits(host)
  assertNothingLeft(host)
})

for (const backend of ['iptables', 'nftables']) {
  hostTest(`1,000 port mappings are published and withdrawn, 1,001 are refused (${backend})`, (host) => {
    const netns = host.container('c1')
    const conf = { ...DUAL_STACK, backend }
    const mappings = (count: number) => ({
      portMappings: Array.from({ length: count }, (_, i) => ({ hostPort: 20_000 + i, containerPort: 1 + i, protocol: i % 2 === 0 ? 'tcp' : 'udp' })),
    })
    assert.match(assertRefused(host, 'ADD', { netns, conf, runtimeConfig: mappings(1001) }, 7).msg ?? '', /up to 1000/)
    host.mustCni('ADD', { netns, conf, runtimeConfig: mappings(1000) })
    host.mustCni('CHECK', { netns, conf, runtimeConfig: mappings(1000), prevResult: {} })
    host.mustCni('DEL', { netns, conf, runtimeConfig: mappings(1000) })
    assertNothingLeft(host)
  })
}
