import assert from 'node:assert/strict'
import { DHCP, DHCP_NETWORK, startDaemon, startDnsmasq } from './dhcp-server.ts'
import { hostTest } from './host.ts'
import { skipsWithout } from './kernel-feature.ts'

hostTest('dhcp: interfaces that share a hardware address get addresses of their own with -broadcast', async (host, t) => {
  if (skipsWithout('ipvlan', host, t)) return
  await startDnsmasq(host, '--dhcp-range=10.99.0.100,10.99.0.105,255.255.255.0,2m')
  await startDaemon(host, '-broadcast', '-resendtimeout', '30s')
  const calls = ['c1', 'c2'].map((id) => {
    const netns = host.container(id)
    host.exec(['ip', 'link', 'add', `iv-${id}`, 'link', 'uplink', 'netns', id, 'type', 'ipvlan', 'mode', 'l2'])
    netns.exec(['ip', 'link', 'set', `iv-${id}`, 'name', 'eth0'])
    return { id, netns, program: DHCP, conf: DHCP_NETWORK }
  })
  const addresses = calls.map((call) => host.mustCni('ADD', call).ips?.[0]?.address)
  assert.equal(new Set(addresses).size, 2)
})
