import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseConfig, parseEnvironment } from '../cni/request.ts'
import type { Command } from '../cni/version.ts'
import { ipamOf } from './ipam.ts'
import type { PluginRequest } from './plugin.ts'

function requestOf(command: Command, ipam: object, more: object = {}): PluginRequest {
  const env = { CNI_COMMAND: command, CNI_CONTAINERID: 'c1', CNI_NETNS: '/run/netns/none', CNI_IFNAME: 'eth0' }
  const input = JSON.stringify({ cniVersion: '1.1.0', name: 'net', type: 'bridge', ipam, ...more })
  const context = { state: { root: '/none' }, resident: true } as PluginRequest['context']
  return { environment: parseEnvironment(env), config: parseConfig(input, command), input, context }
}

test('ipamOf() delegates to host-local in this process, a resident one too, with all verbs', (t) => {
  const dataDir = mkdtempSync(join(tmpdir(), 'ipam-'))
  t.after(() => rmSync(dataDir, { recursive: true }))
  const ipam = { type: 'host-local', dataDir, subnet: '10.0.0.0/24', routes: [{ dst: '0.0.0.0/0' }] }
  const of = (command: Command, more?: object) => ipamOf(requestOf(command, ipam, more)) ?? assert.fail()
  const result = of('ADD').add()
  assert.deepEqual(result, { interfaces: [], ips: [{ address: '10.0.0.2/24', gateway: '10.0.0.1' }], routes: [{ dst: '0.0.0.0/0' }], dns: {} })
  of('STATUS').status()
  of('CHECK', { prevResult: { cniVersion: '1.1.0', ...result, interfaces: [{ name: 'eth0' }] } }).check()
  const held = () => readdirSync(join(dataDir, 'net')).filter((name) => /^\d/.test(name))
  assert.deepEqual(held(), ['10.0.0.2'])
  of('GC', { 'cni.dev/valid-attachments': [{ containerID: 'c1', ifname: 'eth0' }] }).gc()
  assert.deepEqual(held(), ['10.0.0.2'])
  of('DEL').del()
  assert.deepEqual(held(), [])
  assert.throws(() => of('CHECK').check(), { cniCode: 104 })
})

test('ipamOf() delegates to static in this process, and to nobody where no type is named', () => {
  const ipam = { type: 'static', addresses: [{ address: '10.0.0.9/24' }] }
  assert.deepEqual(ipamOf(requestOf('ADD', ipam))?.add().ips, [{ address: '10.0.0.9/24' }])
  assert.equal(ipamOf(requestOf('ADD', {})), undefined)
})
