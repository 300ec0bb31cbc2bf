import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type IpAddress, parseAddress } from '../wire/ip-address.ts'
import { formatHostPort, type PublishedPort, portsConflict } from './model.ts'

const ip = (text: string) => parseAddress(text) as IpAddress
const port = (more: Partial<PublishedPort> = {}): PublishedPort => ({
  protocol: 'tcp',
  hostPort: 8080,
  count: 1,
  address: ip('10.0.0.2'),
  containerPort: 80,
  ...more,
})

test('portsConflict() sees overlapping ranges', () => {
  assert.ok(portsConflict(port(), port()))
  assert.ok(portsConflict(port({ hostPort: 8000, count: 81 }), port()))
  assert.ok(!portsConflict(port({ hostPort: 8000, count: 80 }), port()))
})

test('portsConflict() tells protocols and families apart', () => {
  assert.ok(!portsConflict(port({ protocol: 'udp' }), port()))
  assert.ok(!portsConflict(port({ address: ip('fd00::2') }), port()))
})

test('portsConflict() lets different host addresses share a port, but not with any', () => {
  const [one, two] = [port({ hostAddress: ip('10.0.0.1') }), port({ hostAddress: ip('10.0.0.9') })]
  assert.ok(!portsConflict(one, two))
  assert.ok(portsConflict(one, one) && portsConflict(one, port()) && portsConflict(port(), two))
})

test('formatHostPort() writes both families and ranges', () => {
  assert.equal(formatHostPort(port()), '0.0.0.0:8080/tcp')
  assert.equal(formatHostPort(port({ address: ip('fd00::2'), hostAddress: ip('::1'), count: 11, protocol: 'udp' })), '[::1]:8080-8090/udp')
})
