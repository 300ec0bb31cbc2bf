import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { TsnetError } from '../error.ts'
import { parsePortMappings } from './port-mapping.ts'

const one = (mapping: object) => parsePortMappings({ portMappings: [mapping] })[0]

test('parsePortMappings() reads CRI spelling, podman spelling and the defaults', () => {
  const expected = { hostPort: 18080, containerPort: 80, count: 1, protocol: 'tcp' }
  assert.deepEqual(one({ HostPort: 18080, ContainerPort: 80, Protocol: 'TCP', HostIP: '' }), expected)
  assert.deepEqual(one({ hostPort: 18080, containerPort: 80 }), expected)
  assert.deepEqual(one({ hostPort: 18080, containerPort: 80, protocol: '', range: 0, hostIP: null }), expected)
  assert.deepEqual(one({ hostPort: 18080, containerPort: 80, protocol: 'Sctp', range: 5 }), { ...expected, protocol: 'sctp', count: 5 })
  assert.equal(one({ hostPort: 65535, containerPort: 65535, protocol: 'udp', range: 1 })?.protocol, 'udp')
  assert.deepEqual(parsePortMappings({}), [])
  assert.deepEqual(parsePortMappings({ PortMappings: null }), [])
})

test('parsePortMappings() keeps the family of a host address that means any', () => {
  const hostIP = (text: string) => one({ hostPort: 1, containerPort: 1, hostIP: text })?.hostIP
  assert.equal(hostIP(''), undefined)
  assert.deepEqual(hostIP('0.0.0.0'), { family: 4, value: 0n })
  assert.deepEqual(hostIP('::'), { family: 6, value: 0n })
  assert.deepEqual(hostIP('127.0.0.1'), { family: 4, value: 0x7f000001n })
  assert.deepEqual(hostIP('::ffff:127.0.0.1'), { family: 4, value: 0x7f000001n })
  assert.deepEqual(hostIP('::1'), { family: 6, value: 1n })
})

test('parsePortMappings() refuses with code 7, key and value', () => {
  const rows: [object, string][] = [
    [{ hostPort: 65536 }, 'hostPort": 65536 is not a whole number from 0 to 65535'],
    [{ hostPort: -1 }, 'hostPort": -1 is not a whole number from 0 to 65535'],
    [{ hostPort: '80' }, 'hostPort": "80" is not a whole number from 0 to 65535'],
    [{ hostPort: 80.5 }, 'hostPort": 80.5 is not a whole number from 0 to 65535'],
    [{ containerPort: 0 }, 'containerPort": 0 is not a port from 1 to 65535'],
    [{ containerPort: 65536 }, 'containerPort": 65536 is not a whole number from 0 to 65535'],
    [{ range: -1 }, 'range": -1 is not a whole number from 0 to 65535'],
    [{ hostPort: 65535, range: 2 }, 'range": 2 is not a number of ports up to 1 (the last port is 65535)'],
    [{ containerPort: 65530, range: 7 }, 'range": 7 is not a number of ports up to 6 (the last port is 65535)'],
    [{ protocol: 'icmp' }, 'protocol": "icmp" is not tcp, udp or sctp'],
    [{ protocol: 6 }, 'protocol": 6 is not a string'],
    [{ hostIP: '1.2.3' }, 'hostIP": "1.2.3" is not an IP address'],
    [{ hostIP: 'fe80::1%eth0' }, 'hostIP": "fe80::1%eth0" is not an IP address'],
    [{ hostIP: '127.0.0.1/8' }, 'hostIP": "127.0.0.1/8" is not an IP address'],
  ]
  for (const [change, text] of rows) {
    assert.throws(
      () =>
        parsePortMappings({
          portMappings: [
            { hostPort: 80, containerPort: 80 },
            { hostPort: 80, containerPort: 80, ...change },
          ],
        }),
      (error) => error instanceof TsnetError && error.cniCode === 7 && error.message === `Invalid "portMappings[1].${text}`,
      text,
    )
  }
})

test('parsePortMappings() reads host port 0, or none, as a wish for a free one', () => {
  for (const hostPort of [0, null, undefined]) assert.equal(one({ hostPort, containerPort: 80 })?.hostPort, 0)
  assert.deepEqual(one({ hostPort: 0, containerPort: 9000, range: 11 }), { hostPort: 0, containerPort: 9000, count: 11, protocol: 'tcp' })
})

test('parsePortMappings() refuses other shapes, and more than 1000 mappings', () => {
  for (const portMappings of ['x', {}, 1, [1], [null], [[]], new Array(1001).fill({ hostPort: 1, containerPort: 1 })]) {
    assert.throws(() => parsePortMappings({ portMappings }), { cniCode: 7 })
  }
  assert.equal(parsePortMappings({ portMappings: new Array(1000).fill({ hostPort: 1, containerPort: 1 }) }).length, 1000)
})

test('parsePortMappings() gives ports inside 1..65535 or a TsnetError, whatever it reads', () => {
  const number = fc.oneof(fc.integer({ min: -1, max: 70000 }), fc.jsonValue())
  const mapping = fc.record(
    { hostPort: number, containerPort: number, range: number, protocol: fc.constantFrom('tcp', 'UDP', null, 1) },
    { requiredKeys: [] },
  )
  fc.assert(
    fc.property(fc.oneof(fc.array(mapping), fc.jsonValue()), (portMappings) => {
      try {
        for (const { hostPort, containerPort, count } of parsePortMappings({ portMappings })) {
          assert.ok(hostPort >= 0 && Math.min(containerPort, count) >= 1 && Math.max(hostPort, containerPort) + count <= 65536)
        }
      } catch (error) {
        assert.ok(error instanceof TsnetError && error.cniCode === 7, String(error))
      }
    }),
  )
})
