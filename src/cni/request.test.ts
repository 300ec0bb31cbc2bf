import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { TsnetError } from '../error.ts'
import { checkIfname, MAX_CONFIG_BYTES, MAX_CONFIG_COLONS, parseConfig, parseEnvironment } from './request.ts'
import { parseValidAttachments } from './valid-attachments.ts'
import type { Command } from './version.ts'

const full = { CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'c1', CNI_NETNS: '/run/netns/x', CNI_IFNAME: 'eth0', CNI_PATH: '/opt/cni/bin' }

const refusal = (cniCode: number, message: string | RegExp) => (error: unknown) => {
  assert.ok(error instanceof TsnetError)
  assert.equal(error.cniCode, cniCode)
  if (typeof message === 'string') assert.equal(error.message, message)
  else assert.match(error.message, message)
  return true
}

test('parseEnvironment() reads every variable', () => {
  assert.deepEqual(parseEnvironment({ ...full, CNI_ARGS: 'A=1', CNI_NETNS_OVERRIDE: 'True' }), {
    command: 'ADD',
    containerID: 'c1',
    netns: '/run/netns/x',
    ifname: 'eth0',
    path: '/opt/cni/bin',
    args: 'A=1',
    netnsOverride: true,
  })
  assert.equal(parseEnvironment({ ...full, CNI_NETNS_OVERRIDE: '1' }).netnsOverride, true)
  assert.equal(parseEnvironment({ ...full, CNI_NETNS_OVERRIDE: 'yes' }).netnsOverride, false)
})

test('parseEnvironment() names all missing variables at once, in the order of the specification', () => {
  const missing = (env: Record<string, string>) => refusal(4, `required env variables [${env.missing}] missing`)
  assert.throws(() => parseEnvironment({}), missing({ missing: 'CNI_COMMAND' }))
  assert.throws(() => parseEnvironment({ CNI_COMMAND: '' }), missing({ missing: 'CNI_COMMAND' }))
  for (const CNI_COMMAND of ['ADD', 'CHECK']) {
    assert.throws(() => parseEnvironment({ CNI_COMMAND }), missing({ missing: 'CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME' }))
    assert.throws(() => parseEnvironment({ CNI_COMMAND, CNI_IFNAME: 'eth0', CNI_NETNS: '' }), missing({ missing: 'CNI_CONTAINERID,CNI_NETNS' }))
  }
  assert.throws(() => parseEnvironment({ CNI_COMMAND: 'DEL' }), missing({ missing: 'CNI_CONTAINERID,CNI_IFNAME' }))
})

test('parseEnvironment() lets DEL go without namespace, and GC, STATUS and VERSION without anything', () => {
  assert.equal(parseEnvironment({ CNI_COMMAND: 'DEL', CNI_CONTAINERID: 'c', CNI_IFNAME: 'eth0' }).netns, '')
  for (const CNI_COMMAND of ['GC', 'STATUS', 'VERSION']) {
    const environment = parseEnvironment({ CNI_COMMAND, CNI_CONTAINERID: '!!', CNI_IFNAME: '/', CNI_NETNS: 'dummy' })
    assert.deepEqual([environment.containerID, environment.ifname, environment.netns, environment.path], ['', '', '', ''])
  }
})

test('parseEnvironment() refuses an unknown command, escaped', () => {
  assert.throws(() => parseEnvironment({ CNI_COMMAND: 'add' }), refusal(4, 'unknown CNI_COMMAND: add'))
  assert.throws(() => parseEnvironment({ CNI_COMMAND: 'X\n"' }), refusal(4, 'unknown CNI_COMMAND: X\\n\\"'))
  assert.throws(() => parseEnvironment({ CNI_COMMAND: 'toString' }), refusal(4, 'unknown CNI_COMMAND: toString'))
})

test('parseEnvironment() refuses container ids that are no file name', () => {
  for (const id of ['../x', '.x', '-x', 'a/b', 'a b', 'a\n', 'ä', 'a:b']) {
    assert.throws(() => parseEnvironment({ ...full, CNI_CONTAINERID: id }), refusal(4, 'invalid characters in containerID'))
  }
  assert.throws(() => parseEnvironment({ ...full, CNI_CONTAINERID: 'a'.repeat(201) }), refusal(4, 'containerID is longer than 200 bytes'))
  assert.equal(parseEnvironment({ ...full, CNI_CONTAINERID: `A_.-${'9'.repeat(196)}` }).containerID.length, 200)
})

test('checkIfname() takes what the kernel takes', () => {
  for (const name of ['eth0', 'e', 'a'.repeat(15), 'ünï', 'br-1.100', '...', "a'b"]) checkIfname(name)
  assert.throws(() => checkIfname(''), refusal(4, 'interface name is empty'))
  for (const name of ['a'.repeat(16), 'ü'.repeat(8)]) assert.throws(() => checkIfname(name), refusal(4, 'interface name is too long'))
  for (const name of ['.', '..']) assert.throws(() => checkIfname(name), refusal(4, 'interface name is . or ..'))
  for (const name of ['a/b', 'a:b', 'a b', 'a\tb', 'a\u00a0b', 'a\u0085', 'a\u0001', 'a\u007f', 'eth%d', 'a\ufffd', 'a\n']) {
    assert.throws(() => checkIfname(name), refusal(4, /^interface name contains /), JSON.stringify(name))
  }
})

test('parseConfig() reads the frame in any case and keeps the rest', () => {
  const text =
    '{"CNIVERSION":"1.0.0","Name":"net","TYPE":"tsnet","RuntimeConfig":{"mac":"x"},"Args":{"CNI":{"ips":[]}},"prevresult":{},"isGateWay":true}'
  const config = parseConfig(text, 'ADD')
  assert.deepEqual(
    { ...config, raw: 0 },
    {
      cniVersion: '1.0.0',
      name: 'net',
      type: 'tsnet',
      runtimeConfig: { mac: 'x' },
      args: { ips: [] },
      prevResult: {},
      raw: 0,
    },
  )
  assert.deepEqual(config.raw, JSON.parse(text))
  const short = parseConfig('{"name":"n","prevResult":null,"runtimeConfig":null}', 'ADD')
  assert.deepEqual(short, {
    cniVersion: '0.1.0',
    name: 'n',
    type: '',
    runtimeConfig: {},
    args: {},
    raw: { name: 'n', prevResult: null, runtimeConfig: null },
  })
})

test('parseConfig() refuses with the code of the first thing wrong', () => {
  const rows: [string, Command, number, string | RegExp][] = [
    ['', 'ADD', 6, /empty$/],
    [' \n', 'ADD', 6, /empty$/],
    [`{"name":"${'ü'.repeat(MAX_CONFIG_BYTES / 2)}"}`, 'ADD', 6, /longer than 1 MiB$/],
    [`{"name":"n","list":[${Array.from({ length: MAX_CONFIG_COLONS }, () => '{"":0}')}]}`, 'ADD', 6, /more than 20,000 colons$/],
    ['{', 'ADD', 6, 'Cannot read the network configuration as JSON'],
    ['[]', 'ADD', 6, /It is a list, not a JSON object$/],
    ['null', 'ADD', 6, /It is null, not a JSON object$/],
    ['{"name":5}', 'ADD', 6, 'Invalid "name": 5 is not a string'],
    ['{"cniVersion":"9.9.9"}', 'ADD', 7, 'missing network name'],
    ['{"cniVersion":5}', 'ADD', 7, 'missing network name'],
    ['{"name":""}', 'DEL', 7, 'missing network name'],
    ['{"name":"a/b"}', 'ADD', 7, 'invalid characters found in network name'],
    ['{"name":".."}', 'ADD', 7, 'invalid characters found in network name'],
    [`{"name":"${'a'.repeat(201)}"}`, 'ADD', 7, 'network name is longer than 200 bytes'],
    ['{"name":"n","cniVersion":1}', 'ADD', 6, 'Invalid "cniVersion": 1 is not a string'],
    ['{"name":"n","cniVersion":"9.9.9","prevResult":1}', 'ADD', 1, 'incompatible CNI versions'],
    ['{"name":"n","cniVersion":"0.3.1"}', 'CHECK', 1, 'config version does not allow CHECK'],
    ['{"name":"n","cniVersion":"1.0.0"}', 'GC', 1, 'config version does not allow GC'],
    ['{"name":"n"}', 'STATUS', 1, 'config version does not allow STATUS'],
    ['{"name":"n","prevResult":[]}', 'ADD', 6, 'Invalid "prevResult": a list is not an object'],
    ['{"name":"n","type":1}', 'ADD', 7, 'Invalid "type": 1 is not a string'],
    ['{"name":"n","runtimeConfig":1}', 'ADD', 7, 'Invalid "runtimeConfig": 1 is not an object'],
    ['{"name":"n","args":"x"}', 'ADD', 7, 'Invalid "args": "x" is not an object'],
    ['{"name":"n","args":{"cni":true}}', 'ADD', 7, 'Invalid "args.cni": true is not an object'],
  ]
  for (const [text, command, code, message] of rows) assert.throws(() => parseConfig(text, command), refusal(code, message), text.slice(0, 60))
})

test('parseConfig() of a DEL takes members of the wrong type as absent, so that the container can go', () => {
  const config = parseConfig('{"name":"n","prevResult":[],"runtimeConfig":"x","args":{"cni":1}}', 'DEL')
  assert.deepEqual([config.prevResult, config.runtimeConfig, config.args], [undefined, {}, {}])
  const whole = parseConfig('{"name":"n","PrevResult":{"a":1},"runtimeConfig":{"b":2},"args":{"CNI":{"c":3}}}', 'DEL')
  assert.deepEqual([whole.prevResult, whole.runtimeConfig, whole.args], [{ a: 1 }, { b: 2 }, { c: 3 }])
})

test('parseEnvironment() and parseConfig() give a value or a TsnetError, whatever they read', () => {
  const commands = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS'] as const
  const tsnetOnly = (run: () => unknown) => {
    try {
      run()
    } catch (error) {
      assert.ok(error instanceof TsnetError, String(error))
      assert.ok([1, 4, 6, 7].includes(error.cniCode))
      assert.ok(error.message.length < 200)
    }
  }
  const keys = fc.constantFrom('CNI_COMMAND', 'CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_ARGS')
  const values = fc.oneof(fc.constantFrom(...commands, 'eth0'), fc.string({ unit: 'binary' }))
  fc.assert(fc.property(fc.dictionary(keys, values), (env) => tsnetOnly(() => parseEnvironment(env))))
  const members = fc.constantFrom('name', 'Name', 'cniVersion', 'type', 'prevResult', 'runtimeConfig', 'args', '__proto__')
  const config = fc.dictionary(members, fc.oneof(fc.constantFrom('n', '1.1.0'), fc.jsonValue()))
  fc.assert(
    fc.property(fc.oneof(config, fc.jsonValue()), fc.constantFrom(...commands), (json, command) =>
      tsnetOnly(() => parseConfig(JSON.stringify(json), command)),
    ),
  )
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => tsnetOnly(() => parseConfig(text, 'ADD'))))
})

test('parseValidAttachments() tells "none is valid" from "the runtime did not say"', () => {
  assert.equal(parseValidAttachments({}), undefined)
  assert.equal(parseValidAttachments({ 'cni.dev/valid-attachments': null }), undefined)
  assert.deepEqual(parseValidAttachments({ 'cni.dev/valid-attachments': [], 'cni.dev/attachments': [{ containerID: 'c', ifname: 'i' }] }), [])
  const one = [{ containerID: 'c', ifname: 'eth0' }]
  assert.deepEqual(parseValidAttachments({ 'cni.dev/valid-attachments': [{ containerid: 'c', IfName: 'eth0', x: 1 }] }), one)
  assert.deepEqual(parseValidAttachments({ 'cni.dev/attachments': one }), one)
})

test('parseValidAttachments() refuses an entry that it cannot read', () => {
  for (const entries of [
    {},
    [1],
    [{ containerID: 'c' }],
    [{ ifname: 'eth0' }],
    [{ containerID: '', ifname: 'eth0' }],
    [{ containerID: 1, ifname: 'eth0' }],
  ]) {
    assert.throws(() => parseValidAttachments({ 'cni.dev/valid-attachments': entries }), refusal(7, /^Invalid "cni\.dev\/valid-attachments/))
  }
})
