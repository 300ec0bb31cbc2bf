import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type CniCall, type Container, type Host, hostTest } from './host.ts'

const LIMITS = { ingressRate: 8_000_000, ingressBurst: 1_600_000, egressRate: 16_000_000, egressBurst: 800_000 }

function call(config: object, netns: Container, ifname = 'eth0'): CniCall {
  const prevResult = { cniVersion: '1.1.0', interfaces: [{ name: ifname, sandbox: netns.path }], ips: [] }
  return {
    program: join(process.cwd(), 'dist/bin/bandwidth'),
    netns,
    ifname,
    prevResult,
    conf: { cniVersion: '1.1.0', name: 'net', type: 'bandwidth', ...config },
  }
}

function link(host: Host, netns: Container, port: string, ifname = 'eth0'): void {
  host.sh(`ip link add ${port} type veth peer name ${ifname} netns ${netns.name}; ip link set ${port} up`)
}

const ifbs = (host: Host) =>
  host
    .json<{ ifname: string }>('ip', '-j', 'link')
    .map(({ ifname }) => ifname)
    .filter((name) => name.startsWith('bwp'))

hostTest('bandwidth: CHECK misses a limit that is gone, changed, or led elsewhere', (host) => {
  const netns = host.container('c1')
  link(host, netns, 'port0')
  const limited = call(LIMITS, netns)
  const result = host.mustCni('ADD', limited)
  const [ifb] = ifbs(host)
  assert.equal(result.interfaces?.at(-1)?.name, ifb)
  for (const damage of [
    'tc qdisc change dev port0 root tbf rate 9mbit burst 200kb latency 25ms',
    'tc qdisc del dev port0 root',
    'tc filter del dev port0 parent ffff:',
    `ip link del ${ifb}`,
  ]) {
    host.mustCni('CHECK', limited)
    host.sh(damage)
    const { status, json } = host.cni('CHECK', limited)
    assert.deepEqual([status, json.code], [1, 104], damage)
    assert.match(json.msg ?? '', /is not limited to (8000000|16000000) bit/)
    host.mustCni('DEL', limited)
    host.run(['tc', 'qdisc', 'del', 'dev', 'port0', 'root'])
    host.run(['tc', 'qdisc', 'del', 'dev', 'port0', 'ingress'])
    host.mustCni('ADD', limited)
  }
  host.mustCni('DEL', { ...limited, netns: '', conf: { cniVersion: '1.1.0', name: 'net', type: 'bandwidth' } })
  assert.deepEqual(ifbs(host), [])
})

hostTest('bandwidth: two interfaces of a container have an ifb link each, and each DEL takes its own', (host) => {
  const netns = host.container('c1')
  link(host, netns, 'port0')
  link(host, netns, 'port1', 'eth1')
  host.mustCni('ADD', call(LIMITS, netns))
  const [first] = ifbs(host)
  host.mustCni('ADD', call(LIMITS, netns, 'eth1'))
  assert.equal(ifbs(host).length, 2)
  host.mustCni('CHECK', call(LIMITS, netns, 'eth1'))
  host.mustCni('DEL', call(LIMITS, netns, 'eth1'))
  assert.deepEqual(ifbs(host), [first])
  host.mustCni('CHECK', call(LIMITS, netns))
  host.mustCni('GC', { ...call({ 'cni.dev/valid-attachments': [] }, netns), netns: '' })
  assert.deepEqual(ifbs(host), [])
})

hostTest('bandwidth: an ADD that cannot go on leaves nothing; what is no veth pair is refused', (host) => {
  const netns = host.container('c1')
  netns.sh('ip link add br0 type bridge')
  assert.match(host.cni('ADD', call(LIMITS, netns, 'br0')).json.msg ?? '', /not the end of a veth pair/)
  link(host, netns, 'port0')
  host.sh('tc qdisc add dev port0 clsact')
  const before = host.exec(['tc', 'qdisc'])
  assert.equal(host.cni('ADD', call(LIMITS, netns)).status, 1)
  assert.deepEqual([ifbs(host), host.exec(['tc', 'qdisc'])], [[], before])
  const half = host.cni('ADD', call({ egressRate: 5 }, netns)).json
  assert.equal(half.code, 7)
})
