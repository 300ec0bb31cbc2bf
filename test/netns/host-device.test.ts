import assert from 'node:assert/strict'
import { Device, linkOf, linksOf } from './device.ts'
import { type Host, hostTest } from './host.ts'
import { stateFiles } from './state.ts'

const MAC = '02:00:00:00:00:05'
const NIC = { type: 'host-device', device: 'nic0', ipam: true }
const VALID = (...ids: readonly string[]) => ({ 'cni.dev/valid-attachments': ids.map((containerID) => ({ containerID, ifname: 'eth0' })) })

/** An interface with a life of its own: an address, a route, an alias that somebody has given it. */
function plugIn(host: Host, name = 'nic0'): void {
  host.sh(`
    ip link add ${name} address ${MAC} type veth peer name ${name}-peer
    ip link set ${name}-peer up; ip link set ${name} up alias 'rack 7'
    ip addr add 10.88.0.1/24 dev ${name}; ip route add 10.89.0.0/24 via 10.88.0.9`)
}

/** What is the same once the interface is home. */
function home(host: Host, name = 'nic0'): unknown {
  const { ifalias, address } = linkOf(host, name) ?? {}
  return { ifalias, address, names: linksOf(host).map(({ ifname }) => ifname) }
}

hostTest('host-device: the interface goes into the container under its name, and comes home with its own', (host) => {
  plugIn(host)
  const before = home(host)
  const netns = host.container('c1')
  // Neither the name there nor the one here may be in the way.
  netns.sh('ip link add nic0 type veth peer name nic1')
  host.sh('ip link add eth0 type veth peer name eth1')
  const device = new Device(host, NIC)
  device.must('STATUS')
  const prevResult = device.must('ADD', { netns })
  assert.deepEqual(prevResult.interfaces, [{ name: 'eth0', mac: MAC, mtu: 1500, sandbox: netns.path }])
  assert.deepEqual([linkOf(netns, 'eth0')?.address, linkOf(netns, 'eth0')?.ifalias, linkOf(host, 'nic0')], [MAC, 'nic0', undefined])
  assert.equal(Object.keys(prevResult.dns ?? {}).length, 2)
  device.must('CHECK', { netns, prevResult })
  assert.equal(device.call('ADD', { netns }).json.code, 101)
  // It is with somebody else.
  assert.equal(device.call('ADD', { netns: host.container('c2'), id: 'c2' }).json.code, 7)
  device.must('DEL', { netns, prevResult })
  host.sh('ip link del eth0')
  assert.deepEqual([home(host), device.leases(), stateFiles(host)], [before, '', []])
  assert.equal(linkOf(host, 'nic0')?.flags.includes('UP'), false)
})

hostTest('host-device: a refused ADD gives the host its interface back as it was', (host) => {
  plugIn(host)
  const netns = host.container('c1')
  const all = () => ({
    links: linksOf(host).map(({ ifname, ifalias, flags, addr_info }) => [
      ifname,
      ifalias,
      flags.includes('UP'),
      addr_info.filter(({ scope }) => scope === 'global').map(({ local }) => local),
    ]),
    routes: host.exec(['ip', 'route']),
    inside: linksOf(netns).length,
  })
  const before = all()
  const device = new Device(host, NIC)
  device.fail('ADD')
  assert.equal(device.call('ADD', { netns }).json.code, 11)
  assert.deepEqual([all(), stateFiles(host)], [before, []])
  assert.equal(device.call('ADD', { netns, ifname: 'lo' }).json.code, 101)
  assert.equal(device.call('ADD', { netns, conf: { device: 'lo' } }).json.code, 999)
  assert.deepEqual([all(), stateFiles(host)], [before, []])
})

hostTest('host-device: DEL fails while the host has another interface of that name, and succeeds later', (host) => {
  plugIn(host)
  const before = home(host)
  const netns = host.container('c1')
  const device = new Device(host, NIC)
  device.must('ADD', { netns })
  host.sh('ip link add nic0 type veth peer name other')
  const { status, json } = device.call('DEL', { netns })
  assert.deepEqual([status, /the host has another one of that name/.test(json.msg ?? ''), linkOf(netns, 'eth0')?.address], [1, true, MAC])
  assert.equal(device.leases(), '')
  host.sh('ip link del nic0')
  device.must('DEL', { netns })
  assert.deepEqual([home(host), stateFiles(host)], [before, []])
})

hostTest('host-device: DEL without namespace releases the lease, and finds the interface that the kernel gave back', (host) => {
  plugIn(host)
  const before = home(host)
  const netns = host.container('c1')
  const device = new Device(host, NIC)
  device.must('ADD', { netns })
  // The namespace lives on: only the runtime does not say so.
  device.must('DEL', { netns: '' })
  assert.deepEqual([home(host), device.leases(), stateFiles(host)], [before, '', []])

  // What the kernel does with a physical interface whose namespace dies and whose name is taken.
  device.must('ADD', { netns })
  netns.exec(['ip', 'link', 'set', 'eth0', 'netns', String(host.machine.pid), 'name', 'dev7'])
  host.sh('ip netns del c1')
  device.must('DEL', { netns })
  assert.deepEqual([home(host), device.leases(), stateFiles(host)], [before, '', []])

  // A virtual one dies with its namespace.
  const c2 = host.container('c2')
  device.must('ADD', { netns: c2, id: 'c2' })
  host.sh('ip netns del c2')
  device.must('GC', { conf: VALID() })
  device.must('DEL', { netns: c2, id: 'c2' })
  assert.deepEqual([linkOf(host, 'nic0'), device.leases(), stateFiles(host)], [undefined, '', []])
})

hostTest('host-device: what the reference plugin lent comes home though its namespace is gone, and nothing else does', (host) => {
  plugIn(host)
  const device = new Device(host, NIC)
  const c1 = host.container('c1')
  // As the reference plugin lends it, and as the kernel gives it back.
  host.sh('ip link set nic0 down alias nic0 name dev7')
  device.must('DEL', { netns: '' })
  assert.deepEqual([linkOf(host, 'nic0')?.address, linkOf(host, 'nic0')?.ifalias], [MAC, undefined])
  // An interface of another plugin in a container that never got the device.
  c1.sh('ip link add eth0 type veth peer name eth1; ip link set eth0 alias uplink2')
  device.must('DEL', { netns: c1 })
  assert.equal(linkOf(c1, 'eth0')?.ifalias, 'uplink2')
})

hostTest('host-device: a container cannot choose the name under which the interface comes home', (host) => {
  plugIn(host)
  const before = home(host)
  const netns = host.container('c1')
  const device = new Device(host, NIC)
  device.must('ADD', { netns })
  netns.sh('ip link set eth0 down; ip link set eth0 name hidden alias uplink2')
  netns.sh('ip link set hidden alias nic0; ip link add eth0 type bridge; ip link set eth0 alias uplink2')
  device.must('GC', { conf: VALID() })
  assert.deepEqual(home(host), before)
  assert.equal(linkOf(netns, 'eth0')?.linkinfo?.info_kind, 'bridge')
})

hostTest('host-device: found by hardware address, kernel path, PCI and auxiliary device; with a DPDK driver nothing is moved', (host) => {
  plugIn(host)
  const netns = host.container('c1')
  // Folders in the shape of /sys, where a veth stands for a card.
  host.sh(`
    for f in /sys/devices/system /sys/bus; do mount -t tmpfs tmpfs $f; done
    mkdir -p /sys/devices/system/card/net/nic0 /sys/bus/pci/devices/0000:01:00.0/net/nic0 /sys/bus/pci/devices/0000:02:00.0/virtio3/net/nic0
    mkdir -p /sys/bus/pci/devices/0000:03:00.0 /sys/bus/pci/devices/0000:04:00.0 /sys/bus/auxiliary/devices/mlx5_core.sf.4/net/nic0
    ln -s /drivers/e1000 /sys/bus/pci/devices/0000:01:00.0/driver
    ln -s /drivers/vfio-pci /sys/bus/pci/devices/0000:03:00.0/driver`)
  const device = new Device(host, { type: 'host-device' })
  for (const [pciID, keys] of [
    [undefined, { conf: { hwaddr: MAC.toUpperCase() } }],
    [undefined, { conf: { kernelpath: '/sys/devices/system/card' } }],
    ['0000:01:00.0', { conf: { pciBusID: '0000:01:00.0' } }],
    ['0000:02:00.0', { conf: { pciBusID: '0000:02:00.0' } }],
    [undefined, { conf: { device: 'uplink' }, runtimeConfig: { deviceID: 'mlx5_core.sf.4' } }],
    ['0000:02:00.0', { conf: { device: 'uplink' }, runtimeConfig: { deviceID: '0000:02:00.0' } }],
  ] as const) {
    const result = device.must('ADD', { netns, ...keys })
    assert.deepEqual(result.interfaces, [{ name: 'eth0', mac: MAC, mtu: 1500, ...(pciID && { pciID }), sandbox: netns.path }])
    device.must('DEL', { netns, ...keys })
    assert.equal(linkOf(host, 'nic0')?.address, MAC)
  }
  const dpdk = { netns, conf: { pciBusID: '0000:03:00.0', ipam: { type: 'stranger' } } }
  const prevResult = device.must('ADD', dpdk)
  assert.deepEqual([prevResult.interfaces, prevResult.ips?.length, linksOf(netns).length], [undefined, 1, 1])
  device.must('CHECK', { ...dpdk, prevResult })
  device.must('DEL', dpdk)
  assert.deepEqual([device.leases(), stateFiles(host)], ['', []])
  for (const [text, conf, runtimeConfig] of [
    [/specify either "device", "hwaddr", "kernelpath" or "pciBusID"/, {}, {}],
    [/must be absolute and begin with \/sys\/devices\//, { kernelpath: '/sys/devices/../../etc' }, {}],
    [/there is none of the device "0000:04:00.0"/, { pciBusID: '0000:04:00.0' }, {}],
    [/neither the PCI nor the auxiliary bus has it/, { pciBusID: '../../devices/system/card' }, {}],
    [/neither the PCI nor the auxiliary bus has it/, { device: 'nic0' }, { deviceID: '0000:09:00.0' }],
    [/there is none with the MAC address/, { hwaddr: '02:00:00:00:00:06' }, {}],
    [/there is none called "nic9"/, { device: 'nic9' }, {}],
  ] as const) {
    const { json } = device.call('ADD', { netns, conf, runtimeConfig })
    assert.equal(json.code, 7, json.msg)
    assert.match(json.msg ?? '', text)
  }
})
