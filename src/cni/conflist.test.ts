import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { TsnetError } from '../error.ts'
import { parseConflist, pluginInput } from './conflist.ts'

const list = (members: object) => parseConflist(JSON.stringify({ name: 'net', cniVersion: '1.0.0', plugins: [{ type: 'tsnet' }], ...members }))

test('parseConflist() reads a list', () => {
  assert.deepEqual(list({ disableCheck: true, DisableGC: 'TRUE', plugins: [{ type: 'bridge', x: 1 }, { Type: 'portmap' }] }), {
    name: 'net',
    cniVersion: '1.0.0',
    disableCheck: true,
    disableGC: true,
    loadOnlyInlinedPlugins: false,
    plugins: [{ type: 'bridge', x: 1 }, { Type: 'portmap' }],
  })
  assert.equal(list({ disableCheck: 'False' }).disableCheck, false)
  assert.equal(list({ cniVersion: '' }).cniVersion, '0.1.0')
})

test('parseConflist() takes a single plugin for a list of one', () => {
  const { plugins, ...rest } = parseConflist('{"name":"net","cniVersion":"0.4.0","type":"bridge","bridge":"b"}')
  assert.deepEqual(plugins, [{ name: 'net', cniVersion: '0.4.0', type: 'bridge', bridge: 'b' }])
  assert.deepEqual(rest, { name: 'net', cniVersion: '0.4.0', disableCheck: false, disableGC: false, loadOnlyInlinedPlugins: true })
})

test('parseConflist() picks the newest version that is not newer than ours', () => {
  assert.equal(list({ cniVersions: ['0.4.0', '1.1.0', '2.0.0', '1.0.0'] }).cniVersion, '1.1.0')
  assert.equal(list({ cniVersions: ['0.3.0', '0.4.0'] }).cniVersion, '1.0.0')
  assert.equal(list({ cniVersions: ['0.10.0', '0.4.0'], cniVersion: '1.1.0' }).cniVersion, '1.1.0')
  assert.equal(list({ cniVersions: ['3.0', '0.3.1'], cniVersion: '' }).cniVersion, '0.3.1')
  assert.equal(list({ cniVersions: [] }).cniVersion, '1.0.0')
  assert.throws(() => list({ cniVersions: ['9.0.0'], cniVersion: null }), { cniCode: 1 })
  assert.throws(() => list({ cniVersions: ['9.0.0'], cniVersion: '8.0.0' }), { cniCode: 1 })
  assert.throws(() => list({ cniVersions: ['1.0.1'] }), { cniCode: 1 })
  assert.throws(() => list({ cniVersion: '1.0' }), { cniCode: 1 })
})

test('parseConflist() refuses with code and key', () => {
  const rows: [object, number, RegExp][] = [
    [{ name: '' }, 7, /^missing network name$/],
    [{ name: 'a/b' }, 7, /^invalid characters found in network name$/],
    [{ name: 1 }, 7, /^Invalid "name": 1/],
    [{ plugins: [] }, 7, /^Invalid "plugins": a list is not a list of one plugin or more$/],
    [{ plugins: null }, 7, /^Invalid "plugins": "absent"/],
    [{ plugins: {} }, 7, /^Invalid "plugins": an object is not a list$/],
    [{ plugins: [1] }, 7, /^Invalid "plugins\[0\]": 1/],
    [{ plugins: [{}] }, 7, /^Invalid "plugins\[0\].type": ""/],
    [{ plugins: [{ type: '../x' }] }, 7, /^Invalid "plugins\[0\].type": "..\/x"/],
    [{ plugins: [{ type: 1 }] }, 7, /^Invalid "plugins\[0\].type": 1/],
    [{ disableCheck: 'yes' }, 7, /^Invalid "disableCheck": "yes" is not true or false$/],
    [{ disableGC: 1 }, 7, /^Invalid "disableGC": 1/],
    [{ disableGC: ['true'] }, 7, /^Invalid "disableGC": a list/],
    [{ cniVersions: ['1.0.0', 'x'] }, 7, /^Invalid "cniVersions\[1\]": "x" is not a version$/],
    [{ cniVersions: [1] }, 7, /^Invalid "cniVersions\[0\]": 1/],
    [{ cniVersions: ['1.2.3.4'] }, 7, /^Invalid "cniVersions\[0\]"/],
    [{ cniVersions: '1.0.0' }, 7, /^Invalid "cniVersions": "1.0.0" is not a list$/],
    [{ cniVersions: ['1.0.0'], cniVersion: 'x' }, 7, /^Invalid "cniVersion": "x"/],
    [{ cniVersion: 'x' }, 1, /^incompatible CNI versions$/],
  ]
  for (const [members, cniCode, message] of rows) assert.throws(() => list(members), { cniCode, message }, String(message))
  assert.throws(() => parseConflist('[]'), { cniCode: 6 })
  assert.throws(() => parseConflist('{'), { cniCode: 6 })
})

test('pluginInput() injects name, version, prevResult and the declared capabilities', () => {
  const plugin = { type: 'portmap', capabilities: { portMappings: true, mac: false, ips: true }, snat: true }
  const network = list({ plugins: [plugin] })
  const prevResult = { cniVersion: '1.0.0' }
  const capabilityArgs = { portMappings: [1], mac: 'x', bandwidth: {} }
  assert.deepEqual(pluginInput(network, plugin, { prevResult, capabilityArgs }), {
    ...plugin,
    name: 'net',
    cniVersion: '1.0.0',
    prevResult,
    runtimeConfig: { portMappings: [1] },
  })
  assert.deepEqual(pluginInput(network, { type: 'x' }, { prevResult: undefined, capabilityArgs }), { type: 'x', name: 'net', cniVersion: '1.0.0' })
  assert.throws(() => pluginInput(network, { type: 'x', capabilities: [] }, {}), { cniCode: 7 })
})

test('pluginInput() gives prevResult to DEL and CHECK from 0.4.0 on, and nothing of a container to GC and STATUS', () => {
  const plugin = { type: 'x', capabilities: { mac: true } }
  const input = (cniVersion: string, command: 'ADD' | 'DEL' | 'CHECK' | 'GC' | 'STATUS') =>
    Object.keys(pluginInput(list({ cniVersion }), plugin, { command, prevResult: {}, capabilityArgs: { mac: 'x' } }))
      .slice(4)
      .join()
  assert.equal(input('0.3.1', 'ADD'), 'prevResult,runtimeConfig')
  assert.equal(input('0.3.1', 'DEL'), 'runtimeConfig')
  assert.equal(input('0.4.0', 'DEL'), 'prevResult,runtimeConfig')
  assert.equal(input('0.4.0', 'CHECK'), 'prevResult,runtimeConfig')
  assert.equal(input('1.1.0', 'GC'), '')
  assert.equal(input('1.1.0', 'STATUS'), '')
})

test('pluginInput() replaces every spelling of what it injects, and keeps a written runtimeConfig where nothing is offered', () => {
  const network = list({})
  const plugin = { type: 'x', NAME: 'other', CniVersion: '0.1.0', RuntimeConfig: { mac: 'a' }, capabilities: { mac: true } }
  assert.deepEqual(pluginInput(network, plugin, {}), {
    type: 'x',
    RuntimeConfig: { mac: 'a' },
    capabilities: { mac: true },
    name: 'net',
    cniVersion: '1.0.0',
  })
  const replaced = pluginInput(network, plugin, { capabilityArgs: { mac: 'b' } })
  assert.deepEqual(replaced, { type: 'x', capabilities: { mac: true }, name: 'net', cniVersion: '1.0.0', runtimeConfig: { mac: 'b' } })
})

test('pluginInput() does not take inherited names for capabilities', () => {
  const input = pluginInput(list({}), { type: 'x', capabilities: {} }, { capabilityArgs: JSON.parse('{"__proto__":1,"constructor":2,"toString":3}') })
  assert.deepEqual(input, { type: 'x', capabilities: {}, name: 'net', cniVersion: '1.0.0' })
})

test('parseConflist() gives a list or a TsnetError, whatever it reads', () => {
  const keys = fc.constantFrom('name', 'cniVersion', 'cniVersions', 'plugins', 'type', 'disableCheck')
  const values = fc.oneof(fc.constantFrom('n', '1.1.0', 'true', [{ type: 'x' }]), fc.jsonValue())
  fc.assert(
    fc.property(fc.oneof(fc.dictionary(keys, values), fc.jsonValue()), (json) => {
      try {
        const network = parseConflist(JSON.stringify(json))
        for (const plugin of network.plugins) pluginInput(network, plugin, { capabilityArgs: { mac: 'x' } })
      } catch (error) {
        assert.ok(error instanceof TsnetError && [1, 6, 7].includes(error.cniCode), String(error))
      }
    }),
  )
})
