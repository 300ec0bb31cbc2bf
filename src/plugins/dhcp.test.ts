import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseConfig } from '../cni/request.ts'
import type { DhcpLease } from '../dhcp/lease.ts'
import { TsnetError } from '../error.ts'
import { resultOf } from './dhcp.ts'
import { parseDhcpConfig, parseSocketPath } from './dhcp-config.ts'

const owner = { network: 'lan', containerID: 'c1', ifname: 'eth0' }
const lease: DhcpLease = {
  address: '10.0.0.9',
  prefixLength: 24,
  server: '10.0.0.1',
  serverMac: '020000000001',
  routers: ['10.0.0.1', '10.0.0.2'],
  staticRoutes: [{ destination: '10.0.0.0/8', gateway: '10.0.0.3' }],
  nameservers: [],
  search: [],
  renewAt: 1,
  rebindAt: 2,
  expireAt: 3,
}
const plain = { wishes: { clientID: Buffer.of(0), request: [], provide: [] }, withoutGateway: false }

function parse(ipam: object, args = '') {
  return parseDhcpConfig(configOf(ipam), owner, args)
}

function configOf(ipam: object) {
  return parseConfig(JSON.stringify({ cniVersion: '1.1.0', name: 'lan', type: 'macvlan', ipam }), 'ADD')
}

test('resultOf() has a default route by the first router, behind static routes', () => {
  assert.deepEqual(resultOf({ lease, linkMtu: 1500 }, plain), {
    interfaces: [],
    ips: [{ address: '10.0.0.9/24', gateway: '10.0.0.1' }],
    routes: [
      { dst: '10.0.0.0/8', gw: '10.0.0.3' },
      { dst: '0.0.0.0/0', gw: '10.0.0.1' },
    ],
    dns: {},
  })
  const suppressed = resultOf({ lease, linkMtu: 1500 }, { ...plain, withoutGateway: true, priority: 7 })
  assert.deepEqual([suppressed.ips, suppressed.routes], [[{ address: '10.0.0.9/24' }], [{ dst: '10.0.0.0/8', gw: '10.0.0.3', priority: 7 }]])
})

test('resultOf() takes classless routes instead of all others, and the gateway from them', () => {
  const classlessRoutes = [
    { destination: '10.1.0.0/16', gateway: '0.0.0.0' },
    { destination: '0.0.0.0/0', gateway: '10.0.0.4' },
  ]
  const { ips, routes } = resultOf({ lease: { ...lease, classlessRoutes }, linkMtu: 1500 }, plain)
  assert.deepEqual(ips, [{ address: '10.0.0.9/24', gateway: '10.0.0.4' }])
  assert.deepEqual(routes, [
    { dst: '10.1.0.0/16', gw: '0.0.0.0', scope: 253 },
    { dst: '0.0.0.0/0', gw: '10.0.0.4' },
  ])
  assert.deepEqual(resultOf({ lease: { ...lease, classlessRoutes: [] }, linkMtu: 1500 }, plain).routes, [])
})

test("resultOf() tells an MTU only where the link's is larger", () => {
  const mtus = (mtu: number, linkMtu: number) => resultOf({ lease: { ...lease, mtu }, linkMtu }, plain).routes.map((route) => route.mtu)
  assert.deepEqual(
    [mtus(1400, 1500), mtus(1500, 1500), mtus(9000, 1500)],
    [
      [1400, 1400],
      [undefined, undefined],
      [undefined, undefined],
    ],
  )
})

test('parseDhcpConfig() says who the client is as the reference plugin does', () => {
  assert.equal(Buffer.from(parse({ type: 'dhcp' }).wishes.clientID).toString('latin1'), '\0c1/lan/eth0')
  const long = parseDhcpConfig(configOf({}), { ...owner, network: 'n'.repeat(200), containerID: 'c'.repeat(64) }, '')
  assert.equal(long.wishes.clientID.length, 255)
  const own = parse({ provide: [{ option: 'dhcp-client-identifier', value: 'me' }] }).wishes
  assert.deepEqual([Buffer.from(own.clientID).toString(), own.provide], ['me', []])
})

test('parseDhcpConfig() reads what is asked for and said', () => {
  const codes = (request: object[]) => parse({ request }).wishes.request
  assert.deepEqual(codes([]).slice(0, 3), [1, 121, 3])
  assert.deepEqual(codes([{ option: 'ntp-servers' }, { option: 'routers' }]), [...codes([]), 42])
  assert.deepEqual(codes([{ skipDefault: true, option: 'routers' }, { option: '66' }]), [1, 3, 66])
  const provide = [
    { option: 'host-name', value: 'usual', fromArg: 'POD' },
    { option: '60', fromArg: 'NONE' },
    { option: 77, value: 'class' },
  ]
  const said = (args: string) => parse({ provide }, args).wishes.provide.map(({ code, payload }) => [code, Buffer.from(payload).toString()])
  assert.deepEqual(said('POD=web;x'), [
    [12, 'web'],
    [77, 'class'],
  ])
  assert.deepEqual(said(''), [
    [12, 'usual'],
    [77, 'class'],
  ])
})

test('parseDhcpConfig() refuses what a client cannot say', () => {
  for (const ipam of [
    { provide: [{ option: 'dhcp-message-type', value: 'x' }] },
    { provide: [{ option: 'nothing', value: 'x' }] },
    { provide: [{ option: '12', value: 'x'.repeat(256) }] },
    { provide: [{ option: {}, value: 'x' }] },
    { request: [{ option: '0' }] },
    { request: ['routers'] },
    { suppress: ['routes'] },
    { priority: -1 },
  ]) {
    assert.throws(
      () => parse(ipam),
      (error) => error instanceof TsnetError && error.cniCode === 7,
      JSON.stringify(ipam),
    )
  }
  for (const daemonSocketPath of ['run/x', '/a\0', 7]) assert.throws(() => parseSocketPath(configOf({ daemonSocketPath })), TsnetError)
  assert.equal(parseSocketPath(configOf({})), '/run/cni/dhcp.sock')
})
