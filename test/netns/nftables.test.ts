/** What is particular to the native backend; that it does what iptables does is shown by the other files, run with it too. */
import assert from 'node:assert/strict'
import { ADDRESSES, DUAL_STACK, type Host, hostTest } from './host.ts'
import { assertNothingLeft, rulesOf } from './state.ts'

const NFT = { ...DUAL_STACK, backend: 'nftables' }
const IPTABLES = { ...DUAL_STACK, backend: 'iptables' }
const publish = (...ports: readonly object[]) => ({ portMappings: ports.map((port) => ({ protocol: 'tcp', containerPort: 80, ...port })) })
const table = (host: Host) => host.run(['nft', '-s', 'list', 'table', 'inet', 'tsnet']).stdout
const ask = async (host: Host, port: number) => (await host.outside.talker.ask({ protocol: 'tcp', address: ADDRESSES[4].host, port })).name

hostTest('the native backend needs neither nft nor iptables', async (host) => {
  for (const program of ['nft', 'xtables-nft-multi', 'xtables-legacy-multi']) {
    host.sh(`f=/usr/sbin/${program}; [ ! -e "$f" ] || mount --bind /dev/null "$f"`)
  }
  const container = host.container('c1')
  host.mustCni('ADD', { netns: container, conf: NFT, runtimeConfig: publish({ hostPort: 8080 }) })
  await container.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port: 80 }, 'c1')
  assert.equal(await ask(host, 8080), 'c1')
  host.mustCni('DEL', { netns: container, conf: NFT, runtimeConfig: publish({ hostPort: 8080 }) })
})

hostTest('a range of ten thousand ports is one element, and its comment names the owner', (host) => {
  const netns = host.container('c1')
  host.mustCni('ADD', { netns, conf: NFT, runtimeConfig: publish({ hostPort: 20000, containerPort: 20000, range: 10000 }) })
  assert.match(table(host), /elements = \{ tcp \. 20000-29999 comment "net\/c1:eth0" : 10\.50\.0\.2 \}/)
  host.mustCni('DEL', { netns, conf: NFT })
  assertNothingLeft(host)
})

hostTest("the administrator's chain comes first, and its rules outlive the last container", (host) => {
  const netns = host.container('c1')
  host.mustCni('ADD', { netns, conf: NFT })
  host.exec(['nft', 'add', 'rule', 'inet', 'tsnet', 'tsnet-user', 'ip', 'saddr', '10.9.9.9', 'drop'])
  assert.match(table(host), /chain forward \{\s+type filter[^\n]+\n\s+jump tsnet-user/)
  host.mustCni('DEL', { netns, conf: NFT })
  assert.match(table(host), /chain tsnet-user \{\s+ip saddr 10\.9\.9\.9 drop/)
  assert.doesNotMatch(table(host), /elements/)
})

hostTest('an ADD makes good what somebody flushed', async (host) => {
  const [first, second] = [host.container('first'), host.container('second')]
  host.mustCni('ADD', { id: 'first', netns: first, conf: NFT })
  host.exec(['nft', 'flush', 'ruleset'])
  host.mustCni('ADD', { id: 'second', netns: second, conf: NFT, runtimeConfig: publish({ hostPort: 8080 }) })
  await second.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port: 80 }, 'second')
  assert.equal(await ask(host, 8080), 'second')
  for (const id of ['first', 'second']) host.mustCni('DEL', { id, conf: NFT })
  assertNothingLeft(host)
})

hostTest('CHECK finds an element that is gone, and a chain that was flushed', (host) => {
  const netns = host.container('c1')
  const call = { netns, conf: NFT, runtimeConfig: publish({ hostPort: 8080 }) }
  const prevResult = host.mustCni('ADD', call)
  host.mustCni('CHECK', { ...call, prevResult })
  host.exec(['nft', 'delete', 'element', 'inet', 'tsnet', 'published4', '{ tcp . 8080 }'])
  assert.equal(host.cni('CHECK', { ...call, prevResult }).json.code, 104)
  host.mustCni('DEL', call)
  host.mustCni('ADD', call)
  host.exec(['nft', 'flush', 'chain', 'inet', 'tsnet', 'forward'])
  assert.equal(host.cni('CHECK', { ...call, prevResult }).json.code, 104)
})

hostTest('DEL leaves an element that another owner has put under the same key', (host) => {
  const netns = host.container('c1')
  const runtimeConfig = publish({ hostPort: 8080, hostIP: '0.0.0.0' })
  host.mustCni('ADD', { netns, conf: NFT, runtimeConfig })
  host.sh(
    `nft 'delete element inet tsnet published4 { tcp . 8080 }; add element inet tsnet published4 { tcp . 8080 comment "somebody" : 10.9.9.9 . 80 }'`,
  )
  host.mustCni('DEL', { netns, conf: NFT, runtimeConfig })
  assert.match(table(host), /comment "somebody"/)
})

for (const [from, to] of [
  [IPTABLES, NFT],
  [NFT, IPTABLES],
]) {
  hostTest(`a network that changes from ${from?.backend} to ${to?.backend} takes its rules along and leaves none`, async (host) => {
    const [first, second] = [host.container('first'), host.container('second')]
    host.mustCni('ADD', { id: 'first', netns: first, conf: from ?? {}, runtimeConfig: publish({ hostPort: 8080 }) })
    host.mustCni('ADD', { id: 'second', netns: second, conf: to ?? {}, runtimeConfig: publish({ hostPort: 8081 }) })
    const rules = rulesOf(host)
    const left = to === NFT ? /TSNET/ : /table inet tsnet/
    assert.doesNotMatch(rules, left)
    for (const [container, port] of [[first, 8080] as const, [second, 8081] as const]) {
      await container.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port: 80 }, String(port))
      assert.equal(await ask(host, port), String(port))
    }
    for (const id of ['first', 'second']) host.mustCni('DEL', { id, conf: to ?? {} })
    assertNothingLeft(host)
  })
}

hostTest('"auto" takes nftables until somebody uses iptables, then moves there with all containers, and not back', (host) => {
  const conf = { ...DUAL_STACK, backend: 'auto' }
  const add = (id: string, hostPort: number) => host.mustCni('ADD', { id, netns: host.container(id), conf, runtimeConfig: publish({ hostPort }) })
  add('first', 8080)
  assert.match(table(host), /8080/)
  host.exec(['iptables', '-A', 'FORWARD', '-j', 'ACCEPT'])
  add('second', 8081)
  assert.equal(table(host), '')
  for (const port of [8080, 8081]) assert.match(rulesOf(host), new RegExp(`TSNET-DNAT.*${port}`))
  host.exec(['iptables', '-D', 'FORWARD', '-j', 'ACCEPT'])
  add('third', 8082)
  assert.match(rulesOf(host), /TSNET-DNAT.*8082/)
  for (const id of ['first', 'second', 'third']) host.mustCni('DEL', { id, conf })
  assertNothingLeft(host)
})
