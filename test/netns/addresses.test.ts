import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { addressIn, type CniCall, DUAL_STACK, type Host, hostTest } from './host.ts'
import { assertNothingLeft } from './state.ts'

const withIpam = (ipam: object) => ({ ...DUAL_STACK, ipam })

/** ADDs one container after the other. @returns The addresses of each */
function addEach(host: Host, count: number, call: CniCall): readonly (readonly string[])[] {
  return Array.from({ length: count }, (_, i) => {
    const id = `c${i}`
    const netns = host.run(['test', '-e', `/run/netns/${id}`]).status === 0 ? `/run/netns/${id}` : host.container(id)
    return host.mustCni('ADD', { ...call, id, netns }).ips?.map(({ address }) => address) ?? []
  })
}

hostTest('an address may be requested by CNI_ARGS, by runtimeConfig.ips and by args.cni.ips', (host) => {
  const netns = host.container('c1')
  const wishes: readonly CniCall[] = [
    { args: 'IP=10.50.0.77' },
    { args: 'IP=10.50.0.78/24,fd00:50::78' },
    { args: 'IgnoreUnknown=1;K8S_POD_NAME=c1;IP=10.50.0.79;MAC=02:11:22:33:44:55' },
    { runtimeConfig: { ips: ['10.50.0.80/24', 'fd00:50::80/64'] } },
    { runtimeConfig: { ips: ['fd00:50::81'] } },
    { conf: { ...DUAL_STACK, args: { cni: { ips: ['10.50.0.82'] } } } },
  ]
  const expected = [['10.50.0.77'], ['10.50.0.78', 'fd00:50::78'], ['10.50.0.79'], ['10.50.0.80', 'fd00:50::80'], ['fd00:50::81'], ['10.50.0.82']]
  for (const [i, wish] of wishes.entries()) {
    const result = host.mustCni('ADD', { netns, ...wish })
    for (const address of expected[i] ?? []) assert.equal(addressIn(result, address.includes(':') ? 6 : 4), address)
    if (i === 2) assert.match(netns.exec(['ip', 'link', 'show', 'eth0']), /02:11:22:33:44:55/)
    host.mustCni('DEL', { netns })
  }
  assertNothingLeft(host)
})

hostTest('the MAC of the capability is the one that the container has', (host) => {
  const netns = host.container('c1')
  const result = host.mustCni('ADD', { netns, runtimeConfig: { mac: 'C2-B0-57-49-47-F1' }, args: 'MAC=02:11:22:33:44:55' })
  assert.equal(result.interfaces?.[2]?.mac, 'c2:b0:57:49:47:f1')
  assert.match(netns.exec(['ip', 'link', 'show', 'eth0']), /c2:b0:57:49:47:f1/)
})

hostTest('ranges and exclusions are kept to, and several ranges of one set follow each other', (host) => {
  const set = [
    { subnet: '10.50.0.0/24', rangeStart: '10.50.0.10', rangeEnd: '10.50.0.14', exclude: ['10.50.0.11', '10.50.0.12-10.50.0.13'] },
    { subnet: '10.52.0.0/24', rangeStart: '10.52.0.1', rangeEnd: '10.52.0.3', gateway: '10.52.0.2' },
  ]
  const conf = withIpam({ ranges: [set, [{ subnet: 'fd00:50::/64', rangeStart: 'fd00:50::100' }]] })
  const addresses = addEach(host, 4, { conf })
  assert.deepEqual(addresses, [
    ['10.50.0.10/24', 'fd00:50::100/64'],
    ['10.50.0.14/24', 'fd00:50::101/64'],
    ['10.52.0.1/24', 'fd00:50::102/64'],
    ['10.52.0.3/24', 'fd00:50::103/64'],
  ])
  assert.equal(host.cni('ADD', { id: 'more', netns: host.container('more'), conf }).json.code, 11)
})

hostTest("the runtime's ipRanges give the addresses", (host) => {
  const call = {
    netns: host.container('c1'),
    conf: withIpam({}),
    runtimeConfig: { ipRanges: [[{ subnet: '10.53.0.0/24', rangeStart: '10.53.0.40' }]] },
  }
  assert.deepEqual(
    host.mustCni('ADD', call).ips?.map(({ address, gateway }) => [address, gateway]),
    [['10.53.0.40/24', '10.53.0.1']],
  )
  host.mustCni('DEL', call)
  assertNothingLeft(host)
})

hostTest('the address that was released longest ago is handed out first, after those never used', (host) => {
  const call = { conf: withIpam({ subnet: '10.50.0.0/29' }) }
  const numbers = () => addEach(host, 5, call).map(([address]) => Number(address?.split(/[./]/)[3]))
  assert.deepEqual(numbers(), [2, 3, 4, 5, 6])
  for (const i of [3, 0, 4, 1, 2]) host.mustCni('DEL', { ...call, id: `c${i}` })
  assert.deepEqual(numbers(), [5, 2, 6, 3, 4])
})

hostTest("flannel's subnet.env gives subnet, gateway and MTU, and says whether to masquerade", (host) => {
  const env = 'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.7.1/24\nFLANNEL_MTU=1350\nFLANNEL_IPMASQ=true\n'
  writeFileSync(host.machine.path('/run/subnet.env'), env)
  const netns = host.container('c1')
  const conf = withIpam({ subnetFile: '/run/subnet.env' })
  const result = host.mustCni('ADD', { netns, conf })
  assert.deepEqual(result.ips, [{ interface: 2, address: '10.244.7.2/24', gateway: '10.244.7.1' }])
  assert.equal(result.interfaces?.[2]?.mtu, 1350)
  assert.doesNotMatch(host.exec(['iptables-save', '-t', 'nat']), /-s 10\.244\.7\.0\/24 ! -d/)
  const missing = host.cni('ADD', { id: 'c2', netns: host.container('c2'), conf: withIpam({ subnetFile: '/run/none.env' }) })
  assert.equal(missing.json.code, 11)
})

hostTest('{"name":"x","type":"tsnet"} alone is a complete network', async (host) => {
  const conf = { name: 'x', type: 'tsnet', cniVersion: '1.0.0' }
  const [netns, second] = [host.container('c1'), host.container('c2')]
  const result = host.mustCni('ADD', { netns, conf, runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] } })
  const beside = host.mustCni('ADD', { id: 'c2', netns: second, conf })
  assert.equal(result.interfaces?.[0]?.name, 'tsnet0')
  assert.match(addressIn(result, 4), /^10\.210\.0\.2$/)
  assert.match(addressIn(beside, 4), /^10\.210\.0\.3$/)
  await netns.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port: 80 }, 'web')
  assert.equal((await host.outside.talker.ask({ protocol: 'tcp', address: '10.99.0.1', port: 8080 })).peer, '10.99.0.2')
  await host.outside.talker.serve({ protocol: 'tcp', address: '10.77.0.1', port: 90 }, 'far')
  assert.equal((await second.talker.ask({ protocol: 'tcp', address: '10.77.0.1', port: 90 })).peer, '10.99.0.1')
  for (const id of ['c1', 'c2']) host.mustCni('DEL', { id, conf: { name: 'x', type: 'tsnet' } })
  assertNothingLeft(host)
})
