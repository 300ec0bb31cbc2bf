/** tsnet-dhcp.socket and tsnet-dhcp.service. */
import { spawn } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { assert, check, eventually, killHard, run } from '../runtimes/check.mjs'
import { assertUnit, becomes, cni, container, show } from './service.mjs'

const SERVICE = 'tsnet-dhcp.service'
const SOCKET_UNIT = 'tsnet-dhcp.socket'
const NETWORK = { cniVersion: '1.1.0', name: 'lan', type: 'macvlan', master: 'uplink', ipam: { type: 'dhcp' } }
const SERVER = `start 10.99.0.100
end 10.99.0.110
max_leases 11
interface uplink
lease_file /run/udhcpd.leases
pidfile /run/udhcpd.pid
option subnet 255.255.255.0
option lease 600
`

export async function dhcp() {
  await startServer()
  const call = container('d1', { conf: NETWORK })
  let prevResult

  await check('with its socket enabled alone, the first container starts it and gets an address', async () => {
    run(['systemctl', 'enable', '--now', SOCKET_UNIT])
    assertUnit(SERVICE, { ActiveState: 'inactive' })
    prevResult = await cni('ADD', call)
    assert(prevResult.ips[0].address.startsWith('10.99.0.1'), JSON.stringify(prevResult))
    await becomes(SERVICE, { ActiveState: 'active', SubState: 'running' })
  })

  await check('killed, it comes back without being asked, and knows its leases', async () => {
    const before = Number(show(SERVICE).MainPID)
    killHard(before)
    await becomes(SERVICE, { ActiveState: 'active', SubState: 'running', NRestarts: '1' })
    assert(Number(show(SERVICE).MainPID) !== before, 'It is the same process')
    await cni('CHECK', { ...call, prevResult })
  })

  await check('stopped and asked again, it goes on, and DEL gives the lease back', async () => {
    run(['systemctl', 'enable', '--now', SERVICE])
    assertUnit(SERVICE, { UnitFileState: 'enabled', WantedBy: 'multi-user.target' })
    run(['systemctl', 'stop', SERVICE])
    assertUnit(SERVICE, { ActiveState: 'inactive', Result: 'success' })
    await cni('CHECK', { ...call, prevResult })
    await cni('DEL', call)
    run(['systemctl', 'disable', '--now', SERVICE, SOCKET_UNIT])
    assert(!existsSync('/run/cni/dhcp.sock'), 'Its socket is still there')
  })
}

async function startServer() {
  for (const line of [
    'ip netns add outside',
    'ip link add uplink type veth peer name uplink netns outside',
    'ip link set uplink up',
    'ip -n outside link set uplink up',
    'ip -n outside address add 10.99.0.1/24 dev uplink',
    'touch /run/udhcpd.leases',
  ])
    run(line.split(' '))
  writeFileSync('/run/udhcpd.conf', SERVER)
  const server = spawn('ip', ['netns', 'exec', 'outside', 'busybox', 'udhcpd', '-f', '-a', '1', '/run/udhcpd.conf'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let said = ''
  for (const stream of [server.stdout, server.stderr]) stream.on('data', (data) => (said += data))
  await eventually(() => said.includes('started'), 'The DHCP server does not start')
}
