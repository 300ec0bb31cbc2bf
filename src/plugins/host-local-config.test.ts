import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseConfig, parseEnvironment } from '../cni/request.ts'
import { TsnetError } from '../error.ts'
import { formatHostLocalSet } from '../ipam/host-local/range-sets.ts'
import { formatAddress } from '../wire/ip-address.ts'
import { folderOf, parseHostLocalConfig, parseResolvConf, readDns } from './host-local-config.ts'
import type { PluginRequest } from './plugin.ts'

const SUBNET = { subnet: '10.0.0.0/24' }

function requestOf(conf: object, args = ''): PluginRequest {
  const env = { CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'c1', CNI_NETNS: '/run/netns/c1', CNI_IFNAME: 'eth0', CNI_ARGS: args }
  const input = JSON.stringify({ cniVersion: '1.0.0', name: 'net', ...conf })
  const context = {} as PluginRequest['context']
  return { environment: parseEnvironment(env), config: parseConfig(input, 'ADD'), input, context }
}

const configOf = (conf: object, args?: string) => parseHostLocalConfig(requestOf(conf, args))
const refusal = (conf: object, args?: string) => {
  try {
    configOf(conf, args)
  } catch (error) {
    assert.ok(error instanceof TsnetError)
    return [error.cniCode, error.message]
  }
  return assert.fail('it is accepted')
}

test('parseHostLocalConfig() takes ranges in the order of the reference plugin: of the runtime, of the old style, of the list', () => {
  const { sets } = configOf({
    ipam: { ...SUBNET, RangeStart: '10.0.0.9', ranges: [[{ subnet: 'fd00::/64' }], [{ Subnet: '10.2.0.0/24', gateway: '10.2.0.254' }]] },
    runtimeConfig: { ipRanges: [[{ subnet: '10.3.0.0/30' }]] },
  })
  assert.deepEqual(sets.map(formatHostLocalSet), [
    '10.3.0.1-10.3.0.2',
    '10.0.0.9-10.0.0.254',
    'fd00::1-fd00::ffff:ffff:ffff:ffff',
    '10.2.0.1-10.2.0.254',
  ])
  assert.equal(formatAddress(sets[3]?.[0]?.gateway ?? assert.fail()), '10.2.0.254')
})

test('parseHostLocalConfig() takes requested addresses of CNI_ARGS, args.cni and the capability together, with or without a length', () => {
  const { requested } = configOf(
    { ipam: SUBNET, args: { cni: { ips: ['10.0.0.6'] } }, runtimeConfig: { ips: ['10.0.0.7/24', '10.0.0.5'] } },
    'IgnoreUnknown=1;IP=10.0.0.5;K8S_POD_NAME=x',
  )
  assert.deepEqual(requested.map(formatAddress), ['10.0.0.5', '10.0.0.6', '10.0.0.7'])
})

test('parseHostLocalConfig() copies routes with every member', () => {
  const routes = [{ dst: '10.9.0.1/16', gw: '10.0.0.1', mtu: 1400, advmss: 1300, priority: 5, table: 7, scope: 253 }, { dst: '::/0' }]
  assert.deepEqual(configOf({ ipam: { ...SUBNET, routes } }).routes, routes)
})

test('parseHostLocalConfig() refuses with code 7 and the words of the reference plugin', () => {
  assert.deepEqual(refusal({}), [7, "IPAM config missing 'ipam' key"])
  assert.deepEqual(refusal({ ipam: {} }), [7, 'no IP ranges specified'])
  assert.deepEqual(refusal({ ipam: { ranges: [[SUBNET], [{ subnet: '10.1.0.0/24' }]] }, cniVersion: '0.2.0' }), [
    7,
    'CNI version 0.2.0 does not support more than 1 address per family',
  ])
  assert.deepEqual(refusal({ ipam: { ...SUBNET, dataDir: 'relative' } }), [7, 'Invalid "ipam.dataDir": "relative" is not an absolute path'])
  for (const ipam of [{ ranges: SUBNET }, { ranges: [SUBNET] }, { ranges: [[1]] }, { ...SUBNET, routes: [{ dst: 'x' }] }, { subnet: 5 }]) {
    assert.equal(refusal({ ipam })[0], 7, JSON.stringify(ipam))
  }
  assert.equal(refusal({ ipam: SUBNET }, 'IP=x')[0], 7)
  assert.equal(refusal({ ipam: SUBNET }, 'FOO=1')[0], 4)
})

test('folderOf() is the folder of the reference plugin, and asks for no ranges', () => {
  for (const conf of [{ ipam: { type: 'host-local' } }, {}]) {
    assert.deepEqual(folderOf(requestOf(conf)), { dataDir: '/var/lib/cni/networks', network: 'net' })
  }
  assert.deepEqual(folderOf(requestOf({ ipam: { DataDir: '/run/x' } })), { dataDir: '/run/x', network: 'net' })
})

test('parseResolvConf() reads what resolv.conf(5) has, and passes over comments and what is unknown', () => {
  const text =
    '# a\n; b\nnameserver 192.0.2.1\n  nameserver\t2001:db8::1 trailing\nnameserver\ndomain example.com\nsearch a.example b.example\noptions ndots:5 rotate\nsortlist x\n'
  assert.deepEqual(parseResolvConf(text), {
    nameservers: ['192.0.2.1', '2001:db8::1'],
    domain: 'example.com',
    search: ['a.example', 'b.example'],
    options: ['ndots:5', 'rotate'],
  })
  assert.deepEqual(parseResolvConf('\n'), {})
})

test('readDns() refuses a file that is not there, and one that is no file', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'resolv-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const dnsOf = (resolvConf: string) => readDns(requestOf({ ipam: { ...SUBNET, resolvConf } }))
  writeFileSync(join(folder, 'resolv.conf'), 'nameserver 192.0.2.1\n')
  assert.deepEqual(dnsOf(join(folder, 'resolv.conf')), { nameservers: ['192.0.2.1'] })
  assert.deepEqual(dnsOf(''), {})
  for (const path of [join(folder, 'none'), folder]) assert.throws(() => dnsOf(path), { code: 'TSNET_CONFIG', cniCode: 7 })
})
