import assert from 'node:assert/strict'
import { join } from 'node:path'
import { bridged, call, countPrograms, mustCall } from './bridged.ts'
import { ADDRESSES, type Container, type Host, hostTest } from './host.ts'
import { removeIptables, useLegacyIptables } from './iptables-variant.ts'
import { iptablesRulesOf, stateFiles } from './state.ts'

const REFERENCE = '/usr/lib/cni'
const OURS = join(process.cwd(), 'dist/bin')
const TYPE = 'portmap'
const FAMILIES = [4, 6] as const
const PROTOCOLS = ['tcp', 'udp'] as const
const runtimeConfig = { portMappings: PROTOCOLS.map((protocol) => ({ hostPort: 8080, containerPort: 80, protocol })) }
const other = { portMappings: [{ hostPort: 9090, containerPort: 90, protocol: 'tcp' }] }
const nobody = { 'cni.dev/valid-attachments': [] }

async function serve(container: Container, name: string): Promise<void> {
  for (const address of ['0.0.0.0', '::']) for (const protocol of PROTOCOLS) await container.talker.serve({ protocol, address, port: 80 }, name)
}

/** @returns What is published, by whichever backend: rules of one container each. */
function published(host: Host): readonly string[] {
  const tables = ['ip', 'ip6'].map((family) => host.run(['nft', 'list', 'table', family, 'cni_hostport']).stdout)
  return `${iptablesRulesOf(host)}\n${tables.join('')}`.split('\n').filter((line) => /CNI-DN|dnat to|masquerade comment/.test(line))
}

/** @returns What is kept of attachments. */
function remembered(host: Host): readonly string[] {
  return stateFiles(host).filter((path) => !path.endsWith('lock'))
}

for (const backend of ['iptables', 'nftables'] as const) {
  hostTest(`published ports answer everybody, and CHECK and DEL know them without namespace and result (${backend})`, async (host) => {
    const { container, result } = bridged(host, 'c1', 2)
    const conf = { backend }
    const netns = container
    assert.deepEqual(mustCall(host, 'ADD', { type: TYPE, conf, netns, runtimeConfig, prevResult: result }).ips?.length, 2)
    await serve(container, 'web')
    for (const family of FAMILIES) {
      for (const protocol of PROTOCOLS) {
        const at = { protocol, address: ADDRESSES[family].host, port: 8080 }
        const heard = await host.outside.talker.ask(at)
        assert.deepEqual([heard.name, heard.peer], ['web', ADDRESSES[family].outside])
        assert.equal((await host.talker.ask(at)).name, 'web')
        assert.equal((await container.talker.ask(at)).name, 'web', 'hairpin')
        if (family === 4) assert.equal((await host.talker.ask({ ...at, address: '127.0.0.1' })).name, 'web')
      }
    }
    mustCall(host, 'CHECK', { type: TYPE, conf, netns, runtimeConfig, prevResult: result })
    if (backend === 'iptables') host.exec(['iptables', '-t', 'nat', '-F', 'PREROUTING'])
    else host.exec(['nft', 'flush', 'chain', 'ip', 'cni_hostport', 'hostports'])
    assert.equal(call(host, 'CHECK', { type: TYPE, conf, netns, runtimeConfig, prevResult: result }).json.code, 104)
    mustCall(host, 'DEL', { type: TYPE, conf: { backend: 'nonsense' } })
    assert.deepEqual([published(host), remembered(host)], [[], []])
    mustCall(host, 'DEL', { type: TYPE })
  })

  hostTest(`a host port has one owner, of whichever type, and a UDP client follows it (${backend})`, async (host) => {
    const conf = { backend }
    const [a, b] = [bridged(host, 'a', 2), bridged(host, 'b', 3)]
    const add = (id: string, { container, result }: typeof a) =>
      call(host, 'ADD', { type: TYPE, conf, id, netns: container, runtimeConfig, prevResult: result })
    assert.equal(add('a', a).status, 0)
    for (const [id, place] of [
      ['a', a],
      ['b', b],
    ] as const)
      await serve(place.container, id)
    const ask = { protocol: 'udp', address: ADDRESSES[4].host, port: 8080, localPort: 40_000 } as const
    assert.equal((await host.outside.talker.ask(ask)).name, 'a')
    const before = published(host)
    const refused = add('b', b)
    assert.equal(refused.json.code, 103, refused.stdout)
    assert.equal(host.cni('ADD', { id: 'c', netns: host.container('c'), runtimeConfig }).json.code, 103, 'type tsnet')
    // Without the book the rules still tell.
    host.exec(['mv', '/run/tsnet', '/run/elsewhere'])
    assert.equal(add('b', b).json.code, 103)
    assert.deepEqual(published(host), before)
    host.sh('rm -rf /run/tsnet; mv /run/elsewhere /run/tsnet')
    mustCall(host, 'DEL', { type: TYPE, id: 'a' })
    assert.equal(add('b', b).status, 0)
    assert.equal((await host.outside.talker.ask({ ...ask, expect: 'b' })).name, 'b')
    mustCall(host, 'GC', { type: TYPE, conf: { ...conf, 'cni.dev/valid-attachments': [{ containerID: 'b', ifname: 'eth0' }] } })
    assert.equal((await host.outside.talker.ask(ask)).name, 'b')
    mustCall(host, 'GC', { type: TYPE, conf: { ...conf, ...nobody } })
    assert.deepEqual([published(host), remembered(host)], [[], []])
  })

  hostTest(`two interfaces of a container in one network do not take each other's ports away (${backend})`, (host) => {
    const conf = { backend }
    const first = bridged(host, 'c1', 2)
    const second = bridged(host, 'c1', 3, { container: first.container, ifname: 'eth1' })
    const netns = first.container
    const calls = [
      { type: TYPE, conf, netns, runtimeConfig, prevResult: first.result },
      {
        type: TYPE,
        conf,
        netns,
        ifname: 'eth1',
        runtimeConfig: { portMappings: [...other.portMappings, ...runtimeConfig.portMappings] },
        prevResult: second.result,
      },
    ] as const
    mustCall(host, 'ADD', calls[0])
    const alone = published(host)
    mustCall(host, 'ADD', calls[1])
    for (const one of calls) mustCall(host, 'CHECK', one)
    mustCall(host, 'DEL', { type: TYPE, ifname: 'eth1' })
    assert.deepEqual(published(host), alone)
    mustCall(host, 'DEL', { type: TYPE, ifname: 'eth1' })
    assert.deepEqual(published(host), alone)
    mustCall(host, 'DEL', calls[0])
    assert.deepEqual(published(host), [])
  })
}

hostTest('what the reference plugin has published counts, and GC removes it', (host) => {
  const [a, b] = [bridged(host, 'a', 2), bridged(host, 'b', 3)]
  const old = {
    type: TYPE,
    folder: REFERENCE,
    conf: { cniVersion: '1.0.0' },
    id: 'a',
    netns: a.container,
    runtimeConfig,
    prevResult: { ...a.result, cniVersion: '1.0.0' },
  }
  mustCall(host, 'ADD', old)
  mustCall(host, 'CHECK', { ...old, folder: OURS })
  assert.equal(call(host, 'ADD', { type: TYPE, id: 'b', netns: b.container, runtimeConfig, prevResult: b.result }).json.code, 103)
  mustCall(host, 'GC', { type: TYPE, conf: { name: 'another', ...nobody } })
  mustCall(host, 'CHECK', { ...old, folder: OURS })
  mustCall(host, 'GC', { type: TYPE, conf: nobody })
  assert.deepEqual(published(host), [])
  mustCall(host, 'ADD', { type: TYPE, id: 'b', netns: b.container, runtimeConfig, prevResult: b.result })
  // Removed by the reference plugin, and gone: what is still in the book holds no port.
  mustCall(host, 'DEL', { ...old, id: 'b', netns: b.container, prevResult: { ...b.result, cniVersion: '1.0.0' } })
  assert.deepEqual(published(host), [])
  assert.equal(call(host, 'ADD', { ...old, folder: OURS }).json.code, 103, 'the container lives')
  host.exec(['ip', 'netns', 'del', 'b'])
  mustCall(host, 'ADD', { ...old, folder: OURS })
})

hostTest('STATUS says which program is missing', (host) => {
  const status = (type: string, backend?: string) => call(host, 'STATUS', { type, conf: { backend } }).json.code
  assert.deepEqual([status(TYPE), status(TYPE, 'nftables'), status('firewall')], [undefined, undefined, undefined])
  removeIptables(host)
  assert.deepEqual([status(TYPE), status(TYPE, 'iptables'), status('firewall')], [undefined, 50, 50])
})

hostTest('conditions share a port, and one that would do more than match is refused before anything is written', (host) => {
  const [a, b] = [bridged(host, 'a', 2), bridged(host, 'b', 3)]
  const add = (id: string, place: typeof a, conf: object) =>
    call(host, 'ADD', { type: TYPE, conf, id, netns: place.container, runtimeConfig, prevResult: place.result })
  for (const conditionsV4 of [
    ['-h'],
    ['-j', 'ACCEPT'],
    ['--jum=ACCEPT'],
    ['-M', '/bin/sh'],
    ['-s', '10.0.0.0/8\n-A'],
    ['ip', 'saddr', '10.0.0.0/8', 'accept;'],
  ]) {
    assert.equal(add('a', a, { conditionsV4 }).json.code, 7, conditionsV4.join(' '))
  }
  assert.equal(add('a', a, { conditionsV4: ['-i', 'eth7'], backend: 'nftables' }).json.code, 7)
  assert.deepEqual([published(host), remembered(host)], [[], []])
  for (const words of [
    { v4: (n: number) => ['-d', `10.99.0.${n}`], v6: (n: number) => ['-d', `fd00:99::${n}`] },
    { v4: (n: number) => ['ip', 'daddr', `10.99.0.${n}`], v6: (n: number) => ['ip6', 'daddr', `fd00:99::${n}`] },
  ]) {
    const conf = (n: number) => ({ conditionsV4: words.v4(n), conditionsV6: words.v6(n) })
    assert.deepEqual([add('a', a, conf(1)).status, add('b', b, conf(3)).status], [0, 0])
    for (const id of ['a', 'b']) mustCall(host, 'DEL', { type: TYPE, id })
    assert.deepEqual(published(host), [])
  }
})

hostTest('an ADD that fails in one family leaves nothing in the other', (host) => {
  const { container, result } = bridged(host, 'c1', 2)
  host.exec(['iptables', '-t', 'nat', '-N', 'SOME-MARK'])
  const refused = call(host, 'ADD', { type: TYPE, conf: { externalSetMarkChain: 'SOME-MARK' }, netns: container, runtimeConfig, prevResult: result })
  assert.equal(refused.status, 1)
  assert.deepEqual([published(host), remembered(host)], [[], []])
  host.exec(['ip6tables', '-t', 'nat', '-N', 'SOME-MARK'])
  mustCall(host, 'ADD', { type: TYPE, conf: { externalSetMarkChain: 'SOME-MARK' }, netns: container, runtimeConfig, prevResult: result })
  assert.match(host.exec(['iptables-save', '-t', 'nat']), /-j SOME-MARK/)
  mustCall(host, 'DEL', { type: TYPE })
})

hostTest('ADD runs two programs a family, DEL one', (host) => {
  const { container, result } = bridged(host, 'c1', 2)
  const programs = countPrograms(host)
  mustCall(host, 'ADD', { type: TYPE, netns: container, runtimeConfig, prevResult: result })
  assert.deepEqual([...programs()].sort(), ['ip6tables-restore', 'ip6tables-save', 'iptables-restore', 'iptables-save'])
  mustCall(host, 'DEL', { type: TYPE })
  assert.deepEqual([...programs()].sort(), ['ip6tables-restore', 'iptables-restore'])
  mustCall(host, 'DEL', { type: TYPE })
  assert.deepEqual([...programs()].sort(), ['ip6tables-save', 'iptables-save'])
  mustCall(host, 'ADD', { type: TYPE, conf: { backend: 'nftables' }, netns: container, runtimeConfig, prevResult: result })
  mustCall(host, 'DEL', { type: TYPE })
  assert.deepEqual(
    [...programs()].filter((name) => name !== 'nft'),
    [],
  )
})

hostTest('ports are published by iptables-legacy too', async (host, t) => {
  if (!useLegacyIptables(host)) return t.skip('The kernel has no legacy iptables')
  const { container, result } = bridged(host, 'c1', 2)
  mustCall(host, 'ADD', { type: TYPE, netns: container, runtimeConfig, prevResult: result })
  await serve(container, 'web')
  assert.equal((await host.outside.talker.ask({ protocol: 'tcp', address: ADDRESSES[4].host, port: 8080 })).name, 'web')
  mustCall(host, 'CHECK', { type: TYPE, netns: container, runtimeConfig, prevResult: result })
  host.exec(['iptables', '-t', 'nat', '-F', 'CNI-HOSTPORT-DNAT'])
  mustCall(host, 'DEL', { type: TYPE })
  assert.deepEqual(published(host), [])
})
