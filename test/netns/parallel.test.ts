import assert from 'node:assert/strict'
import { DUAL_STACK, hostTest } from './host.ts'
import { assertNothingLeft, leasesOf } from './state.ts'

const COUNT = 20
const numbers = Array.from({ length: COUNT }, (_, i) => i)

hostTest(`${COUNT} parallel ADDs on a new network all succeed with addresses of their own, and so do ${COUNT} parallel DELs`, async (host) => {
  const containers = numbers.map((i) => host.container(`c${i}`))
  const call = (i: number) => ({
    id: `c${i}`,
    netns: containers[i] ?? '',
    runtimeConfig: { portMappings: [{ hostPort: 8000 + i, containerPort: 80, protocol: 'tcp' }] },
  })
  const results = await Promise.all(numbers.map((i) => host.cniAsync('ADD', call(i))))
  for (const { status, stdout, stderr } of results) assert.equal(status, 0, `${stdout}${stderr}`)
  const addresses = results.flatMap(({ json }) => json.ips?.map(({ address }) => address) ?? [])
  assert.equal(new Set(addresses).size, 2 * COUNT)
  assert.equal(leasesOf(host).length, 2 * COUNT)
  for (const [i, container] of containers.entries()) {
    const [link] = container.json<{ addr_info: { local: string; prefixlen: number; scope: string }[] }>('ip', '-j', 'addr', 'show', 'eth0')
    const own = link?.addr_info.filter(({ scope }) => scope === 'global').map(({ local, prefixlen }) => `${local}/${prefixlen}`)
    assert.deepEqual(
      own,
      results[i]?.json.ips?.map(({ address }) => address),
    )
    assert.equal(host.cni('CHECK', { ...call(i), prevResult: results[i]?.json ?? {} }).status, 0)
  }
  await Promise.all([3, 17].map((i) => containers[i]?.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port: 80 }, `c${i}`)))
  assert.equal((await host.outside.talker.ask({ protocol: 'tcp', address: '10.99.0.1', port: 8017 })).name, 'c17')
  assert.equal((await containers[17]?.talker.ask({ protocol: 'tcp', address: '10.99.0.1', port: 8003 }))?.name, 'c3')
  const ends = await Promise.all(numbers.map((i) => host.cniAsync('DEL', call(i))))
  for (const { status, stdout, stderr } of ends) assert.equal(status, 0, `${stdout}${stderr}`)
  assertNothingLeft(host)
})

hostTest('parallel ADDs of networks that come into being at once get bridges and subnets of their own', async (host) => {
  const networks = ['red', 'green', 'blue', 'black', 'white']
  const calls = networks.flatMap((name) =>
    [0, 1].map((i) => ({ id: `${name}${i}`, netns: host.container(`${name}${i}`), conf: { cniVersion: '1.1.0', name, type: 'tsnet' } })),
  )
  const results = await Promise.all(calls.map((call) => host.cniAsync('ADD', call)))
  for (const { status, stdout, stderr } of results) assert.equal(status, 0, `${stdout}${stderr}`)
  const subnetOf = (i: number) => results[i]?.json.ips?.[0]?.gateway
  const bridgeOf = (i: number) => results[i]?.json.interfaces?.[0]?.name
  for (const [i] of networks.entries()) {
    assert.equal(subnetOf(2 * i), subnetOf(2 * i + 1))
    assert.equal(bridgeOf(2 * i), bridgeOf(2 * i + 1))
  }
  assert.equal(new Set(results.map((_, i) => subnetOf(i))).size, networks.length)
  assert.equal(new Set(results.map((_, i) => bridgeOf(i))).size, networks.length)
  const ends = await Promise.all(calls.map((call) => host.cniAsync('DEL', call)))
  for (const { status, stdout } of ends) assert.equal(status, 0, stdout)
  assertNothingLeft(host)
})

hostTest('of parallel ADDs for one host port exactly one succeeds', async (host) => {
  const calls = [0, 1, 2, 3, 4].map((i) => ({
    id: `c${i}`,
    netns: host.container(`c${i}`),
    conf: { ...DUAL_STACK, name: `net${i}`, bridge: `br${i}`, ipam: { subnet: `10.5${i}.0.0/24` } },
    runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] },
  }))
  const results = await Promise.all(calls.map((call) => host.cniAsync('ADD', call)))
  assert.deepEqual(results.map(({ json }) => json.code ?? 0).sort(), [0, 103, 103, 103, 103])
  await Promise.all(calls.map((call) => host.cniAsync('DEL', call)))
  assertNothingLeft(host)
})

hostTest('ADDs and DELs that cross each other leave exactly what was added', async (host) => {
  const call = (i: number) => ({ id: `c${i}`, netns: `/run/netns/c${i}` })
  for (const i of numbers) host.container(`c${i}`)
  for (const i of numbers.slice(0, 10)) host.mustCni('ADD', call(i))
  const outcomes = await Promise.all(numbers.map((i) => host.cniAsync(i < 10 ? 'DEL' : 'ADD', call(i))))
  for (const { status, stdout } of outcomes) assert.equal(status, 0, stdout)
  assert.equal(leasesOf(host).length, COUNT)
  for (const i of numbers.slice(10)) host.mustCni('CHECK', { ...call(i), prevResult: {} })
  await Promise.all(numbers.map((i) => host.cniAsync('DEL', call(i))))
  assertNothingLeft(host)
})
