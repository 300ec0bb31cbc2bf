import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { createServer, type Server } from 'node:net'
import { test } from 'node:test'
import { TsnetError } from '../error.ts'
import { type IpAddress, parseAddress } from '../wire/ip-address.ts'
import { openHostPorts } from './host-ports.ts'
import type { PublishedPort } from './model.ts'

const ip = (text: string) => parseAddress(text) as IpAddress
/** Opened anew, as for each claim. */
const firstTaken = (wanted: PublishedPort) => openHostPorts({ containerID: 'c1', coming: [] }).firstTaken(wanted)
const refusal = (wanted: PublishedPort, taken: number) => openHostPorts({ containerID: 'c1', coming: [] }).refusal(wanted, taken)

function port(hostPort: number, more: Partial<PublishedPort> = {}): PublishedPort {
  return { protocol: 'tcp', hostPort, count: 1, address: ip('10.0.0.2'), containerPort: 80, ...more }
}

function listen(address: string): Promise<{ readonly number: number; readonly server: Server }> {
  const server = createServer()
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, address, () => resolve({ server, number: Number(Object(server.address()).port) }))
  })
}

test('firstTaken() finds a listener on one address or any, and not one on another address', async () => {
  const { server, number } = await listen('127.0.0.1')
  try {
    assert.equal(firstTaken(port(number)), number)
    assert.equal(firstTaken(port(number, { hostAddress: ip('127.0.0.1') })), number)
    assert.equal(firstTaken(port(number, { hostAddress: ip('127.0.0.2') })), undefined)
    assert.equal(firstTaken(port(number, { protocol: 'udp' })), undefined)
    assert.equal(firstTaken(port(number - 300, { count: 600 })), number)
    assert.equal(firstTaken(port(number - 3, { count: 6 })), number)
    const { message, cniCode, details } = refusal(port(number - 3, { count: 6 }), number)
    assert.match(message, new RegExp(`a process on the host has port ${number}$`))
    assert.equal(cniCode, 103)
    assert.match(details ?? '', new RegExp(`process ${process.pid}$`))
  } finally {
    server.close()
  }
  assert.equal(firstTaken(port(number)), undefined)
})

test('firstTaken() finds a UDP socket', async () => {
  const socket = createSocket({ type: 'udp4', reuseAddr: true })
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve))
  const number = socket.address().port
  try {
    assert.equal(firstTaken(port(number, { protocol: 'udp' })), number)
    assert.equal(firstTaken(port(number - 300, { protocol: 'udp', count: 600 })), number)
    assert.match(refusal(port(number, { protocol: 'udp' }), number).details ?? '', new RegExp(`process ${process.pid}$`))
  } finally {
    socket.close()
  }
})

test('firstTaken() refuses an address that the host has not, unless it is coming', () => {
  const elsewhere = port(8080, { hostAddress: ip('192.0.2.1') })
  for (const count of [1, 1000]) {
    assert.throws(
      () => firstTaken({ ...elsewhere, count }),
      (error) => error instanceof TsnetError && error.cniCode === 7 && /the host has no address 192\.0\.2\.1$/.test(error.message),
    )
  }
  assert.equal(openHostPorts({ containerID: 'c1', coming: [ip('192.0.2.1')] }).firstTaken(elsewhere), undefined)
})
