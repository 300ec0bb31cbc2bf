import assert from 'node:assert/strict'
import { DHCP_NETWORK, DhcpServer, macvlanContainer, startDaemon } from './dhcp-server.ts'
import { hostTest } from './host.ts'

hostTest('ADD gets a lease with all that the server says, CHECK finds it, DEL gives it back', async (host) => {
  const more = ['option router 10.99.0.2', 'option dns 10.99.0.2 9.9.9.9', 'option domain lan.example', 'option search a.example b.example', 'option mtu 1300']
  const server = await DhcpServer.start(host, { more })
  const daemon = await startDaemon(host)
  const { call } = macvlanContainer(host, 'c1')
  const result = host.mustCni('ADD', call)
  console.log(JSON.stringify(result), daemon.log(), server.log)
  host.mustCni('CHECK', { ...call, prevResult: result })
  console.log(server.leases())
  host.mustCni('DEL', call)
  console.log(server.leases(), daemon.log(), server.log)
  void DHCP_NETWORK, assert
})
