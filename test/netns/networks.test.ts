/** Containers that are in several networks. */
import assert from 'node:assert/strict'
import { ADDRESSES, addressIn, type CniDocument, type Container, DUAL_STACK, type Host, hostTest } from './host.ts'
import { Sniffer } from './sniff.ts'
import { assertNothingLeft } from './state.ts'

const FAMILIES = [4, 6] as const
const PROTOCOLS = ['tcp', 'udp'] as const
const PORT = 80

const network = (name: string, tens: number) => ({
  ...DUAL_STACK,
  name,
  bridge: `br-${name}`,
  ipam: { ranges: [[{ subnet: `10.${tens}.0.0/24` }], [{ subnet: `fd00:${tens}::/64` }]] },
})

/** Each publishes its own port, of the same port of the container. */
const NETWORKS = [
  { conf: network('first', 50), ifname: 'eth0', hostPort: 8080 },
  { conf: network('second', 60), ifname: 'eth1', hostPort: 8081 },
  { conf: network('third', 70), ifname: 'eth2', hostPort: 8082 },
] as const

interface Joined {
  readonly conf: ReturnType<typeof network>
  readonly ifname: string
  readonly hostPort: number
}

const portMappings = (hostPort: number) => PROTOCOLS.map((protocol) => ({ hostPort, containerPort: PORT, protocol }))
const call = (netns: Container, { conf, ifname, hostPort }: Joined) => ({
  id: netns.name,
  netns,
  conf,
  ifname,
  runtimeConfig: { portMappings: portMappings(hostPort) },
})
const join = (host: Host, netns: Container, joined: Joined): CniDocument => host.mustCni('ADD', call(netns, joined))
const leave = (host: Host, netns: Container, joined: Joined): CniDocument => host.mustCni('DEL', call(netns, joined))

interface Member extends Joined {
  readonly result: CniDocument
  readonly neighbour: Container
}

/** A neighbour in each network; the container serves on each of its addresses. */
async function joinAll(host: Host, web: Container, networks: readonly Joined[]): Promise<readonly Member[]> {
  const members = networks.map((joined) => {
    const neighbour = host.container(`beside-${joined.conf.name}`)
    host.mustCni('ADD', { id: neighbour.name, netns: neighbour, conf: joined.conf })
    return { ...joined, result: join(host, web, joined), neighbour }
  })
  for (const { result, ifname } of members) await serve(web, result, ifname)
  return members
}

/** A server on all addresses would have to say by which one it answers a datagram; TCP knows. */
async function serve(web: Container, result: CniDocument, name: string): Promise<void> {
  for (const family of FAMILIES) {
    for (const protocol of PROTOCOLS) await web.talker.serve({ protocol, address: addressIn(result, family), port: PORT }, name)
  }
}

/** From outside, the host, and every neighbour, whichever network he is of. */
async function assertAllAnswer(host: Host, members: readonly Member[], neighbours = members.map(({ neighbour }) => neighbour)): Promise<void> {
  for (const { hostPort, ifname } of members) {
    for (const family of FAMILIES) {
      for (const protocol of PROTOCOLS) {
        for (const place of [host.outside, host, ...neighbours]) {
          const address = ADDRESSES[family].host
          const answer = await place.talker.ask({ protocol, address, port: hostPort }).catch((error: Error) => ({ name: error.message }))
          assert.equal(answer.name, ifname, `${protocol} over IPv${family} from ${place.name} to port ${hostPort}`)
        }
      }
    }
  }
}

/** @returns The policy rules that a fresh namespace has not. */
function rulesIn(container: Container): readonly string[] {
  const lines = ['-4', '-6'].flatMap((family) => container.exec(['ip', family, 'rule']).trim().split('\n'))
  return lines.filter((line) => !/lookup (local|main|default)$/.test(line.trim()))
}

/** @returns The routes in tables of our own. */
function tablesIn(container: Container): readonly string[] {
  const lines = ['-4', '-6'].flatMap((family) => container.exec(['ip', family, 'route', 'show', 'table', 'all']).trim().split('\n'))
  return lines.filter((line) => / table \d+/.test(line))
}

function defaultDevices(container: Container): readonly (string | undefined)[] {
  return FAMILIES.map((family) => /dev (\S+)/.exec(container.exec(['ip', `-${family}`, 'route', 'show', 'default']))?.[1])
}

for (const count of [2, 3]) {
  for (const strict of [false, true]) {
    hostTest(`a container in ${count} networks answers by each of them${strict ? ', with a strict rp_filter on all links' : ''}`, async (host) => {
      if (strict) host.sh('echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter; echo 1 > /proc/sys/net/ipv4/conf/default/rp_filter')
      const web = host.container('web')
      const networks = NETWORKS.slice(0, count)
      const members = await joinAll(host, web, networks)
      for (const { result, ...joined } of members) host.mustCni('CHECK', { ...call(web, joined), prevResult: result })
      // tsnet itself leaves bridges of containers in several networks loose; answers need no such mercy.
      if (strict) for (const { conf } of members) host.sh(`echo 1 > /proc/sys/net/ipv4/conf/${conf.bridge}/rp_filter`)
      if (strict) web.sh('for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > $file; done')
      await assertAllAnswer(host, members)
      assert.deepEqual(defaultDevices(web), ['eth0', 'eth0'])
      for (const { neighbour, conf } of members) host.mustCni('DEL', { id: neighbour.name, netns: neighbour, conf })
      for (const joined of networks) leave(host, web, joined)
      assert.deepEqual([...rulesIn(web), ...tablesIn(web)], [])
      assertNothingLeft(host)
    })
  }
}

hostTest('answers are seen on the bridge that the question went over, and what the container asks leaves by the first', async (host) => {
  const web = host.container('web')
  const members = await joinAll(host, web, NETWORKS.slice(0, 2))
  const first = await Sniffer.start(host, 'br-first', 'tcp or icmp')
  const second = await Sniffer.start(host, 'br-second', 'tcp or icmp')
  const [, member] = members
  assert.ok(member)
  await host.outside.talker.ask({ protocol: 'tcp', address: ADDRESSES[4].host, port: member.hostPort })
  const own = addressIn(member.result, 4)
  await second.line(new RegExp(`> ${own}\\.80: Flags \\[S\\]`))
  await second.line(new RegExp(`${own}\\.80 > .*Flags \\[S\\.\\]`))
  const far = { protocol: 'tcp', address: ADDRESSES[4].far, port: 9000 } as const
  await host.outside.talker.serve(far, 'far')
  assert.equal((await web.talker.ask(far)).name, 'far')
  await first.line(/> 10\.77\.0\.1\.9000: Flags \[S\]/)
  assert.doesNotMatch(first.text, new RegExp(`${own.replaceAll('.', '\\.')}\\.80`), 'an answer of the second network left by the first')
  assert.doesNotMatch(second.text, /10\.77\.0\.1\.9000/, 'a question left by the second network')
  first.stop()
  second.stop()
})

for (const order of [
  [0, 1, 2],
  [2, 1, 0],
  [1, 0, 2],
]) {
  hostTest(`left in the order ${order.map((i) => i + 1).join()}: the other networks go on, the first of them has the way out`, async (host) => {
    const web = host.container('web')
    let members = await joinAll(host, web, NETWORKS)
    const neighbours = members.map(({ neighbour }) => neighbour)
    const far = { protocol: 'tcp', address: ADDRESSES[4].far, port: 9000 } as const
    await host.outside.talker.serve(far, 'far')
    for (const index of order) {
      const joined = NETWORKS[index] as Joined
      leave(host, web, joined)
      members = members.filter(({ ifname }) => ifname !== joined.ifname)
      if (members.length > 0) await assertAllAnswer(host, members, neighbours)
      for (const { result, ...other } of members) host.mustCni('CHECK', { ...call(web, other), prevResult: result })
      const way = members[0]?.ifname
      assert.deepEqual(defaultDevices(web), [way, way])
      if (way !== undefined) assert.equal((await web.talker.ask(far)).name, 'far')
    }
    assert.deepEqual([...rulesIn(web), ...tablesIn(web)], [])
    for (const [i, neighbour] of neighbours.entries()) host.mustCni('DEL', { id: neighbour.name, netns: neighbour, conf: NETWORKS[i]?.conf ?? {} })
    assertNothingLeft(host)
  })
}

hostTest('a container that is alone in its network again is as if it had always been', (host) => {
  const web = host.container('web')
  const [one, two] = NETWORKS
  join(host, web, one)
  const look = () => ['-4', '-6'].map((family) => web.exec(['ip', family, 'rule']) + web.exec(['ip', family, 'route', 'show', 'table', 'all']))
  const before = look()
  assert.deepEqual([...rulesIn(web), ...tablesIn(web)], [], 'a container with one interface has rules')
  join(host, web, two)
  assert.equal(rulesIn(web).length, 4)
  leave(host, web, two)
  assert.deepEqual(look(), before)
})

hostTest('a network that was left first and is joined again comes after the others', async (host) => {
  const web = host.container('web')
  const [one, two] = NETWORKS
  const members = await joinAll(host, web, [one, two])
  leave(host, web, one)
  const result = join(host, web, one)
  assert.deepEqual(defaultDevices(web), ['eth1', 'eth1'])
  await serve(web, result, 'eth0').catch((error: Error) => assert.match(error.message, /EADDRINUSE/))
  await assertAllAnswer(host, members)
})

hostTest('the result says which table a default route is in, and is silent about it where the version has no word for it', (host) => {
  const web = host.container('web')
  const [one, two] = NETWORKS
  join(host, web, one)
  const { routes } = join(host, web, two)
  assert.deepEqual(
    routes?.map(({ dst, gw }) => `${dst} ${gw}`),
    ['0.0.0.0/0 10.60.0.1', '::/0 fd00:60::1'],
  )
  for (const route of routes ?? []) assert.match(JSON.stringify(route), /"table":\d+/)
  leave(host, web, two)
  const older = host.mustCni('ADD', { ...call(web, two), conf: { ...two.conf, cniVersion: '1.0.0' } })
  assert.equal(older.routes, undefined)
})

hostTest('CHECK misses a policy rule and a route of the table, and repair makes them again', async (host) => {
  const web = host.container('web')
  const members = await joinAll(host, web, NETWORKS.slice(0, 2))
  const [first, second] = members
  assert.ok(first && second)
  const own = addressIn(second.result, 4)
  web.exec(['ip', 'rule', 'del', 'from', own])
  const lacking = host.cni('CHECK', { ...call(web, second), prevResult: second.result })
  assert.match(lacking.stdout, new RegExp(`the policy rule for ${own}`))
  host.mustCni('CHECK', { ...call(web, first), prevResult: first.result })
  web.sh('ip route flush table $(ip -6 rule | sed -n "s/.*from fd00:50.*lookup \\([0-9]*\\).*/\\1/p")')
  assert.match(host.cni('CHECK', { ...call(web, first), prevResult: first.result }).stdout, /the route to 0\.0\.0\.0\/0/)
  host.exec([`${process.cwd()}/dist/bin/tsnet`, 'repair'])
  for (const { result, ...joined } of members) host.mustCni('CHECK', { ...call(web, joined), prevResult: result })
  await assertAllAnswer(host, members)
})

hostTest('repair makes the link of either interface again, and the first keeps the way out', (host) => {
  const web = host.container('web')
  // Whichever is repaired first: they are taken in the order of their names.
  const [one, two] = NETWORKS
  for (const [first, second] of [
    [one, two],
    [two, one],
  ] as const) {
    const members = [first, second].map((joined) => ({ joined, prevResult: join(host, web, joined) }))
    for (const { prevResult } of members) {
      host.exec(['ip', 'link', 'delete', prevResult.interfaces?.[1]?.name ?? ''])
      host.exec([`${process.cwd()}/dist/bin/tsnet`, 'repair'])
      for (const family of ['-4', '-6'])
        assert.match(web.exec(['ip', family, 'route', 'show', 'default']), new RegExp(`^default [^\\n]*dev ${first.ifname} [^\\n]*\\n$`))
      for (const member of members) host.mustCni('CHECK', { ...call(web, member.joined), prevResult: member.prevResult })
    }
    for (const { joined } of members) leave(host, web, joined)
  }
})

hostTest('an ADD that fails leaves neither rule nor table, of itself nor of the first interface', (host) => {
  const web = host.container('web')
  const [one, two] = NETWORKS
  join(host, web, one)
  const other = host.container('other')
  host.mustCni('ADD', { id: 'other', netns: other, conf: two.conf, runtimeConfig: { portMappings: portMappings(9999) } })
  const before = web.exec(['ip', 'rule']) + web.exec(['ip', 'route', 'show', 'table', 'all'])
  const { argv, env, input } = host.prepare('ADD', call(web, two))
  const trace = ['strace', '-o', '/dev/null', '-e', 'trace=rename,renameat,renameat2']
  // The last file that is renamed is the finished record: then everything else is done.
  const fails = (when: number) => host.run([...trace, '-e', `inject=rename:error=EIO:when=${when}`, ...argv], { env, input }).status !== 0
  let when = 1
  for (; fails(when); when++) {
    assert.deepEqual([...rulesIn(web), ...tablesIn(web)], [], `rename ${when}`)
    assert.equal(web.exec(['ip', 'rule']) + web.exec(['ip', 'route', 'show', 'table', 'all']), before)
  }
  assert.ok(when > 3, `failed at ${when - 1} renames`)
  assert.equal(rulesIn(web).length, 4)
})

hostTest("a person's rules and tables in the container are left alone", (host) => {
  const web = host.container('web')
  const [one, two] = NETWORKS
  join(host, web, one)
  web.sh('ip rule add from 10.60.0.2 lookup 100 pref 31000; ip rule add from 10.60.0.2 lookup 101 pref 32000')
  web.sh('ip route add 10.1.0.0/16 dev eth0 table 100')
  const look = () => [rulesIn(web), tablesIn(web)]
  const before = look()
  join(host, web, two)
  leave(host, web, two)
  assert.deepEqual(look(), before)
})

hostTest('ports that a runtime names again for the second network stay with the first, and answer', async (host) => {
  const web = host.container('web')
  const [one, two] = NETWORKS
  const members = await joinAll(host, web, [one, { ...two, hostPort: one.hostPort }])
  const [first] = members
  assert.ok(first)
  await assertAllAnswer(
    host,
    [first],
    members.map(({ neighbour }) => neighbour),
  )
})

hostTest('a container in two networks is no way between them', async (host) => {
  const web = host.container('web')
  const members = await joinAll(host, web, NETWORKS.slice(0, 2))
  web.sh('echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding')
  const [first, second] = members
  assert.ok(first && second)
  for (const family of FAMILIES) {
    const target = second.neighbour.json<{ addr_info: { family: string; local: string }[] }>('ip', '-j', 'addr', 'show', 'dev', 'eth0')[0]
    const address = target?.addr_info.find((info) => info.family === (family === 4 ? 'inet' : 'inet6'))?.local ?? ''
    await second.neighbour.talker.serve({ protocol: 'tcp', address, port: 7000 }, 'neighbour')
    first.neighbour.exec(['ip', `-${family}`, 'route', 'add', address, 'via', addressIn(first.result, family)])
    await assert.rejects(first.neighbour.talker.ask({ protocol: 'tcp', address, port: 7000, timeoutMs: 500 }))
  }
})
