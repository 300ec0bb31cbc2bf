import assert from 'node:assert/strict'
import { test } from 'node:test'
import { linkLocalAddress, macToBytes } from '../../bridge/mac.ts'
import { KernelError, TsnetError } from '../../error.ts'
import { formatAddress, type IpAddress, parseAddress } from '../../wire/ip-address.ts'
import { guardedElement, isOfPort, ownElements, sharedElements } from './element.ts'
import { explained } from './guard.ts'

const addresses = (...texts: readonly string[]) => texts.map((text) => parseAddress(text) as IpAddress)
const first = { owner: 'net/c1:eth0', name: 'tsn1', addresses: addresses('10.0.0.2', 'fd00::2') }
const second = { owner: 'net/c1:eth1', name: 'tsn2', addresses: addresses('10.0.0.3') }
const keys = (placed: ReturnType<typeof ownElements>) =>
  placed.map(
    ({ set, element }) =>
      `${set} ${Buffer.from(element.key?.value ?? [])
        .toString('hex')
        .replaceAll(/0{8,}/g, '…')}`,
  )

test('ownElements() says port, MAC address and each address', () => {
  assert.deepEqual(keys(ownElements({ port: first, mac: macToBytes('02:00:00:00:00:01'), siblings: [] })), [
    'guarded 74736e31…',
    'macs 74736e31…2…10000',
    'sources4 74736e31…a000002',
    'sources6 74736e31…fd…2',
  ])
})

test('sharedElements() lets each of two ports send the addresses of the other, and a port is known by its name', () => {
  const shared = sharedElements(first, second)
  assert.equal(shared.length, 3)
  assert.deepEqual(
    shared.map((placed) => isOfPort(placed, first)),
    [true, false, false],
  )
  assert.equal(isOfPort(guardedElement({ ...first, name: 'tsn12' }), first), false)
})

test('linkLocalAddress() is that of RFC 4291', () => {
  assert.equal(formatAddress(linkLocalAddress(macToBytes('34:56:78:9a:bc:de'))), 'fe80::3656:78ff:fe9a:bcde')
  assert.equal(formatAddress(linkLocalAddress(macToBytes('02:00:00:00:00:01'))), 'fe80::ff:fe00:1')
})

test('a kernel without nf_tables for bridges is told by name, with code 50; other refusals stay what they are', () => {
  const refusal = (operation: string, name: string) => () => {
    throw new KernelError(operation, 95, { name, text: 'Operation not supported' })
  }
  for (const name of ['EOPNOTSUPP', 'EAFNOSUPPORT', 'ENOENT']) {
    const isTold = (error: unknown) => error instanceof TsnetError && error.code === 'TSNET_NO_BRIDGE_FILTER' && error.cniCode === 50
    assert.throws(() => explained(refusal('create the table "tsnet"', name)), isTold)
  }
  assert.throws(() => explained(refusal('create the table "tsnet"', 'EPERM')), KernelError)
  assert.throws(() => explained(refusal('add to "guarded"', 'ENOENT')), KernelError)
})
