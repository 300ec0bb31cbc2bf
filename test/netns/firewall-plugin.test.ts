import assert from 'node:assert/strict'
import { answered, startAgent } from './agent-process.ts'
import { bridged, call, countPrograms, mustCall } from './bridged.ts'
import { startFirewalld } from './firewalld-daemon.ts'
import { ADDRESSES, type Host, hostTest } from './host.ts'
import { stateFiles } from './state.ts'

const TYPE = 'firewall'
const REFERENCE = '/usr/lib/cni'
const FAMILIES = [4, 6] as const
const nobody = { 'cni.dev/valid-attachments': [] }

/** @returns The rules of the filter tables, and the chains that are there. */
function filters(host: Host): readonly string[] {
  return ['iptables-save', 'ip6tables-save'].flatMap((tool) =>
    host
      .exec([tool, '-t', 'filter'])
      .split('\n')
      .filter((line) => /^-A|^:\S+ -/.test(line))
      .map((line) => line.replace(/ \[.*/, '')),
  )
}

/** @returns The rules that name an address. */
const addressed = (host: Host) => filters(host).filter((line) => /-[sd] (10|fd)/.test(line))
const remembered = (host: Host) => stateFiles(host).filter((path) => !path.endsWith('lock'))

hostTest('under FORWARD policy DROP containers reach out and published ports answer', async (host) => {
  const { container, result } = bridged(host, 'c1', 2)
  for (const tool of ['iptables', 'ip6tables']) host.exec([tool, '-P', 'FORWARD', 'DROP'])
  host.outside.sh('ip route add 10.1.2.0/24 via 10.99.0.1; ip -6 route add fd00:1::/64 via fd00:99::1')
  const request = { netns: container, prevResult: result }
  const before = filters(host)
  assert.equal(call(host, 'CHECK', { type: TYPE, ...request }).json.code, 104)
  assert.deepEqual(filters(host), before, 'CHECK makes nothing')
  const programs = countPrograms(host)
  mustCall(host, 'ADD', { type: TYPE, ...request })
  assert.deepEqual([...programs()].sort(), ['ip6tables-restore', 'ip6tables-save', 'iptables-restore', 'iptables-save'])
  mustCall(host, 'ADD', { type: 'portmap', ...request, runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] } })
  for (const address of ['0.0.0.0', '::']) await container.talker.serve({ protocol: 'tcp', address, port: 80 }, 'web')
  for (const family of FAMILIES) {
    await host.outside.talker.serve({ protocol: 'tcp', address: ADDRESSES[family].far, port: 9000 }, 'far')
    assert.equal((await host.outside.talker.ask({ protocol: 'tcp', address: ADDRESSES[family].host, port: 8080 })).name, 'web')
    assert.equal((await container.talker.ask({ protocol: 'tcp', address: ADDRESSES[family].far, port: 9000 })).name, 'far')
  }
  await assert.rejects(host.outside.talker.ask({ protocol: 'tcp', address: '10.1.2.2', port: 80, timeoutMs: 300 }), 'what is not published')
  mustCall(host, 'CHECK', { type: TYPE, ...request })
  mustCall(host, 'DEL', { type: 'portmap' })
  programs()
  mustCall(host, 'DEL', { type: TYPE, conf: { backend: 'nonsense' } })
  assert.deepEqual([...programs()].sort(), ['ip6tables-restore', 'iptables-restore'])
  assert.deepEqual([addressed(host), remembered(host)], [[], []])
})

hostTest('the DEL of an attachment that is long gone takes nothing from who has its address now', (host) => {
  const { container, result } = bridged(host, 'c1', 2)
  const request = (id: string) => ({ type: TYPE, id, netns: container, prevResult: result })
  mustCall(host, 'ADD', request('a'))
  const rules = addressed(host)
  assert.equal(rules.length, 6)
  mustCall(host, 'ADD', request('b'))
  for (let i = 0; i < 2; i++) {
    mustCall(host, 'DEL', request('a'))
    assert.deepEqual(addressed(host), rules)
  }
  mustCall(host, 'CHECK', request('b'))
  mustCall(host, 'GC', { type: TYPE, conf: { ...nobody, name: 'another' } })
  assert.deepEqual(addressed(host), rules)
  mustCall(host, 'GC', { type: TYPE, conf: nobody })
  assert.deepEqual([addressed(host), remembered(host)], [[], []])
  // Made by the reference plugin, removed by what the result says.
  mustCall(host, 'ADD', { ...request('c'), folder: REFERENCE, conf: { cniVersion: '1.0.0' }, prevResult: { ...result, cniVersion: '1.0.0' } })
  mustCall(host, 'CHECK', request('c'))
  mustCall(host, 'DEL', request('c'))
  assert.deepEqual(addressed(host), [])
})

hostTest('chains of isolation go with the last bridge that needs them, and stay where another program has made them', (host) => {
  const { container, result } = bridged(host, 'c1', 2)
  const on = (bridge: string) => ({ ...result, interfaces: [{ name: bridge }, { name: 'v2' }, { name: 'eth0', sandbox: container.path }] })
  const request = (id: string, bridge: string, ingressPolicy: string) => ({
    type: TYPE,
    id,
    netns: container,
    conf: { ingressPolicy },
    prevResult: on(bridge),
  })
  const isolating = () => filters(host).filter((line) => line.includes('ISOLATION'))
  for (const bridge of ['br0+', 'br 0', '-j', '']) assert.equal(call(host, 'ADD', request('x', bridge, 'same-bridge')).json.code, 7, bridge)
  assert.deepEqual(filters(host), [])
  const requests = [request('a', 'br0', 'same-bridge'), request('b', 'br0', 'same-bridge'), request('c', 'br1', 'isolated')]
  const programs = countPrograms(host)
  for (const one of requests) mustCall(host, 'ADD', one)
  assert.equal(programs().filter((name) => name.endsWith('save')).length, 2 * requests.length, 'one look a family')
  mustCall(host, 'CHECK', request('c', 'br1', 'isolated'))
  const counts = requests.map(({ id }) => {
    mustCall(host, 'DEL', { type: TYPE, id })
    return ['br0', 'br1'].map((bridge) => isolating().filter((line) => line.includes(`${bridge} `)).length)
  })
  assert.deepEqual(counts, [
    [4, 6],
    [0, 6],
    [0, 0],
  ])
  assert.deepEqual(isolating(), [])
  const old = { ...request('d', 'br0', 'same-bridge'), folder: REFERENCE }
  mustCall(host, 'ADD', { ...old, conf: { ...old.conf, cniVersion: '1.0.0' }, prevResult: { ...old.prevResult, cniVersion: '1.0.0' } })
  const made = isolating()
  for (const one of requests.slice(0, 2)) mustCall(host, 'ADD', one)
  for (const { id } of requests) mustCall(host, 'DEL', { type: TYPE, id })
  assert.deepEqual(isolating(), made)
})

hostTest('the agent serves both types, and leaves to one shot what waits for firewalld', async (host) => {
  const { container, result } = bridged(host, 'c1', 2)
  await startAgent(host)
  const request = { netns: container, prevResult: result }
  const ports = { ...request, type: 'portmap', runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] } }
  for (const one of [ports, { ...request, type: TYPE }]) for (const command of ['ADD', 'CHECK', 'DEL']) mustCall(host, command, one)
  assert.equal(answered(host), 6)
  assert.equal(call(host, 'ADD', { ...request, type: TYPE, conf: { backend: 'firewalld' } }).status, 1, 'nobody is on the bus')
  assert.equal(answered(host), 6)
  assert.deepEqual([addressed(host), remembered(host)], [[], []])
})

hostTest('firewalld takes the addresses into its zone', async (host, t) => {
  await startFirewalld(host, t)
  const { container, result } = bridged(host, 'c1', 2)
  const request = { type: TYPE, netns: container, prevResult: result, conf: { firewalldZone: 'work' } }
  const sources = () => host.exec(['firewall-cmd', '--zone=work', '--list-sources']).trim()
  mustCall(host, 'ADD', request)
  assert.equal(sources(), '10.1.2.2/32 fd00:1::2/128')
  mustCall(host, 'CHECK', request)
  mustCall(host, 'DEL', { type: TYPE })
  assert.equal(sources(), '')
  assert.equal(call(host, 'CHECK', request).json.code, 104)
  assert.deepEqual(addressed(host), [])
})
