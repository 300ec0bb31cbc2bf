import assert from 'node:assert/strict'
import { test } from 'node:test'
import { macToBytes, macToText } from '../bridge/mac.ts'
import { type IpPrefix, parseAddress, parsePrefix } from '../wire/ip-address.ts'
import { aliasOf, desiredOf } from './desired.ts'
import { describeStep, diff } from './diff.ts'
import type { NetworkRecord } from './network.ts'
import type { Observed } from './observe.ts'
import { hostVethName, ownerMarkText, ownerText } from './owner.ts'
import { type AttachmentRecord, recordedPort, recordPort } from './record.ts'
import { routesBeside } from './source-routing.ts'
import { UndoStack } from './undo.ts'

const owner = { network: 'net', containerID: 'c1', ifname: 'eth0' }
const prefix = (text: string) => parsePrefix(text) as IpPrefix
const record: AttachmentRecord = {
  ...owner,
  format: 1,
  state: 'attached',
  netns: { path: '/run/netns/c1', inode: 1 },
  bootId: 'b',
  created: '2026-01-01T00:00:00Z',
  bridge: 'tsnet0',
  hostVeth: hostVethName(owner),
  hairpin: true,
  mtu: 1400,
  mac: '02:00:00:00:00:01',
  hostMac: '02:00:00:00:00:02',
  bridgeMac: '02:00:00:00:00:03',
  addresses: [
    { address: '10.0.0.2/24', gateway: '10.0.0.1' },
    { address: 'fd00::2/64', gateway: 'fd00::1' },
  ],
  routes: [
    { dst: '0.0.0.0/0', gw: '10.0.0.1' },
    { dst: '::/0', gw: 'fd00::1' },
  ],
  ports: [{ protocol: 'tcp', hostPort: 8080, count: 1, address: '10.0.0.2', containerPort: 80 }],
}
const network: NetworkRecord = {
  bridge: 'tsnet0',
  createdBridge: true,
  masquerade: true,
  gateway: true,
  subnets: ['10.0.0.0/24', 'fd00::/64'],
  chosen: false,
}
const desired = desiredOf(record, network)
const complete: Observed = {
  bridge: { index: 2, up: true, mtu: 1400, mac: new Uint8Array(6), addresses: [prefix('10.0.0.1/24'), prefix('fd00::1/64')], filtered: false },
  port: { index: 3, up: true, mtu: 1400, mac: new Uint8Array(6), master: 2, hairpin: true, isolated: false, ipv6: false },
  container: {
    index: 2,
    up: true,
    mtu: 1400,
    mac: new Uint8Array(6),
    addresses: desired.container.addresses,
    routes: desired.container.routes,
    sourceRules: [],
    loopbackUp: true,
    settings: {},
    sysctls: new Map(desired.container.sysctls.map(({ key, value }) => [key, value])),
  },
  defaultRoutes: desired.container.routes,
  hostSysctls: new Map(desired.hostSysctls.map(({ key, value }) => [key, value])),
  missingRules: [],
}
const kinds = (observed: Observed) => diff(desired, observed).map(({ kind }) => kind)

test('diff() has nothing to do when everything is as it shall be', () => assert.deepEqual(diff(desired, complete), []))

test('diff() makes everything in order when nothing is there', () => {
  assert.deepEqual(kinds({ hostSysctls: new Map() }), [
    'writeRules',
    'createBridge',
    ...desired.hostSysctls.map(() => 'setHostSysctl'),
    'addBridgeAddress',
    'addBridgeAddress',
    'createVeth',
    'setPortIpv6Off',
    'setPort',
    'setContainerSysctls',
    'setLoopbackUp',
    'setContainerUp',
    'addAddress',
    'addAddress',
    'addRoute',
    'addRoute',
    'announce',
  ])
})

test('diff() leaves a bridge alone that is right', () => {
  const { bridge, hostSysctls } = complete
  assert.deepEqual(kinds({ ...(bridge && { bridge }), hostSysctls }).slice(0, 2), ['writeRules', 'createVeth'])
})

for (const [what, change, expected] of [
  ['a lost address', { container: { ...complete.container, addresses: [prefix('10.0.0.2/24')] } }, ['addAddress']],
  ['a lost route', { container: { ...complete.container, routes: [] } }, ['addRoute', 'addRoute']],
  ['a container interface that is down', { container: { ...complete.container, up: false } }, ['setContainerUp']],
  ['a port without hairpin', { port: { ...complete.port, hairpin: false } }, ['setPort']],
  ['a port of another bridge', { port: { ...complete.port, master: 9 } }, ['setPortMaster']],
  [
    'a port of no bridge, when the bridge is gone',
    { port: { ...complete.port, master: 0 }, bridge: undefined },
    ['createBridge', 'addBridgeAddress', 'addBridgeAddress', 'setPortMaster'],
  ],
  ['a port that is down', { port: { ...complete.port, up: false } }, ['setPortUp']],
  ['a veth pair that is gone', { port: undefined }, ['createVeth', 'setPortIpv6Off']],
  ['a port over which the host speaks IPv6', { port: { ...complete.port, ipv6: true } }, ['setPortIpv6Off']],
  ['a lost rule', { missingRules: ['nat: -A X'] }, ['writeRules']],
  ['a bridge that is down', { bridge: { ...complete.bridge, up: false } }, ['setBridgeUp']],
] as const) {
  test(`diff() sees ${what}`, () => {
    const steps = diff(desired, { ...complete, ...change } as Observed)
    assert.deepEqual(
      steps.map(({ kind }) => kind).filter((kind) => kind !== 'setPort' || what.includes('hairpin')),
      expected,
    )
    for (const step of steps) assert.match(describeStep(step), /\S/)
  })
}

test('diff() sees what an interface lacks that answers by a table of its own', () => {
  const second = { ...record, table: 47000003, routes: record.routes.map((route) => ({ ...route, table: 47000003 })) }
  const wanted = desiredOf(second, network)
  const others = desired.container.routes
  const describe = (container: object, defaultRoutes = others) =>
    diff(wanted, { ...complete, defaultRoutes, container: { ...complete.container, ...container } } as Observed).map(describeStep)
  const { sourceRouting } = wanted.container
  assert.ok(sourceRouting)
  const sourceRules = sourceRouting.sources.map((source) => ({ source, table: 47000003 }))
  assert.deepEqual(describe({ routes: sourceRouting.routes, sourceRules }), [])
  assert.deepEqual(describe({ routes: sourceRouting.routes, sourceRules: sourceRules.slice(1) }), ['the policy rule for 10.0.0.2 in the container'])
  assert.deepEqual(describe({ routes: sourceRouting.routes.slice(1), sourceRules }), ['the route to 10.0.0.0/24 in the container'])
  const first = 'the route to 0.0.0.0/0 via 10.0.0.1 in the container'
  assert.deepEqual(describe({ routes: sourceRouting.routes, sourceRules }, others.slice(1)), [first], 'the first interface is gone')
  const withoutLink = diff(wanted, { ...complete, container: undefined, port: undefined } as unknown as Observed)
  const inMain = withoutLink.filter((step) => step.kind === 'addRoute' && step.route.table === undefined)
  assert.deepEqual(inMain, [], 'its own link is gone, and the first interface has the default routes')
})

test('yieldedRoutes() leaves the default routes to the first interface as long as that one is attached, with a link or without', () => {
  const second = { ...record, table: 47000003, routes: record.routes.map((route) => ({ ...route, table: 47000003 })) }
  const first = { ...record, state: 'attached' as const, table: 47000002 }
  const count = (siblings: readonly AttachmentRecord[]) =>
    desiredOf(second, network, { records: siblings, bridges: [] }).container.yieldedRoutes.length
  assert.deepEqual(
    [count([]), count([first]), count([{ ...first, state: 'adding' }]), count([second])],
    [record.routes.length, 0, record.routes.length, record.routes.length],
  )
})

test('desiredOf() routes by source where another interface is, and only there', () => {
  const first = { ...record, table: 47000002 }
  assert.equal(desiredOf(first, network).container.sourceRouting, undefined)
  assert.equal(desiredOf(first, network, { records: [record], bridges: [] }).container.sourceRouting, undefined)
  assert.equal(desiredOf(first, network, { records: [{ ...record, table: 47000003 }], bridges: [] }).container.sourceRouting?.routes.length, 5)
})

test('routesBeside() moves a default route that is taken to the own table, and drops another one', () => {
  const routes = [...record.routes, { dst: '10.9.0.1/16', gw: '10.0.0.1' }, { dst: '10.8.0.0/16', gw: '10.0.0.1' }]
  const taken = [{ destination: prefix('0.0.0.0/0') }, { destination: prefix('10.9.0.0/16') }]
  assert.deepEqual(routesBeside(routes, taken, 47000003), [
    { dst: '0.0.0.0/0', gw: '10.0.0.1', table: 47000003 },
    { dst: '::/0', gw: 'fd00::1' },
    { dst: '10.8.0.0/16', gw: '10.0.0.1' },
  ])
})

test('hostVethName() is stable, fits, and differs by every part of the owner', () => {
  assert.equal(hostVethName(owner), hostVethName({ ...owner }))
  const names = [owner, { ...owner, network: 'other' }, { ...owner, containerID: 'c2' }, { ...owner, ifname: 'eth1' }].map(hostVethName)
  assert.equal(new Set(names).size, 4)
  for (const name of names) assert.match(name, /^tsn[0-9a-f]{12}$/)
})

test('ownerMarkText() and aliasOf() fit where they go, however long the names are', () => {
  const long = { network: 'n'.repeat(200), containerID: 'c'.repeat(200), ifname: 'eth0' }
  assert.ok(ownerMarkText(long).length <= 200 && aliasOf(long).length <= 255)
  assert.notEqual(ownerMarkText(long), ownerMarkText({ ...long, ifname: 'eth1' }))
  assert.equal(ownerMarkText(owner), ownerText(owner))
})

test('recordedPort() reads what recordPort() wrote', () => {
  const port = { protocol: 'udp', hostPort: 53, count: 2, containerPort: 5353 } as const
  const [address, hostAddress] = [parseAddress('10.0.0.2'), parseAddress('10.9.9.9')]
  assert.ok(address && hostAddress)
  for (const value of [
    { ...port, address },
    { ...port, address, hostAddress },
  ])
    assert.deepEqual(recordedPort(recordPort(value)), value)
})

test('macToText() and macToBytes() are inverse', () => assert.equal(macToText(macToBytes('02:00:00:00:00:ff')), '02:00:00:00:00:ff'))

test('UndoStack takes back in reverse order, goes on after a failure, and nothing after commit()', () => {
  const log: string[] = []
  {
    using undo = new UndoStack((problem) => log.push(problem))
    undo.push('first', () => log.push('first'))
    undo.push('second', () => {
      throw new Error('no')
    })
    undo.push('third', () => log.push('third'))
  }
  assert.deepEqual(log, ['third', 'Cannot undo: second: no', 'first'])
  {
    using undo = new UndoStack(() => assert.fail())
    undo.push('never', () => assert.fail())
    undo.commit()
  }
})
