import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ErrorList, TsnetError } from '../error.ts'
import type { AttachmentRecord } from '../plan/record.ts'
import type { Attachment } from './attachments.ts'
import { formatAttached, formatAttachment, formatList, shortPorts } from './render-attachment.ts'
import { formatRan } from './render-cni.ts'
import { formatError } from './render-error.ts'
import { jsonOf } from './render-json.ts'
import { formatFields, formatTable, PLAIN, type Style } from './style.ts'

const TERMINAL: Style = { terminal: true, columns: 80, colours: false }

const record: AttachmentRecord = {
  format: 1,
  state: 'attached',
  network: 'tsnet',
  containerID: 'web',
  ifname: 'eth0',
  netns: { path: '/run/netns/web', inode: 4026532001 },
  bootId: 'boot',
  created: '2026-01-02T03:04:05.000Z',
  bridge: 'tsnet0',
  hostVeth: 'tsn000000000001',
  hairpin: true,
  mtu: 1500,
  mac: '02:00:00:00:00:01',
  hostMac: '02:00:00:00:00:02',
  bridgeMac: '02:00:00:00:00:03',
  addresses: [
    { address: '10.210.0.2/22', gateway: '10.210.0.1' },
    { address: 'fd00::2/64', gateway: 'fd00::1' },
  ],
  routes: [{ dst: '0.0.0.0/0', gw: '10.210.0.1' }],
  ports: [
    { protocol: 'tcp', hostPort: 8080, count: 1, address: '10.210.0.2', containerPort: 80 },
    { protocol: 'tcp', hostPort: 8080, count: 1, address: 'fd00::2', containerPort: 80 },
    { protocol: 'udp', hostAddress: '127.0.0.1', hostPort: 8000, count: 11, address: '10.210.0.2', containerPort: 9000 },
  ],
}
const owner = { network: 'tsnet', containerID: 'web', ifname: 'eth0' }
const attached: Attachment = { owner, record, status: 'attached' }

test('formatAttached() is short for a terminal and has tabs for a pipe', () => {
  const ports = ['tcp://0.0.0.0:8080 -> 10.210.0.2:80', 'tcp://[::]:8080 -> [fd00::2]:80', 'udp://127.0.0.1:8000-8010 -> 10.210.0.2:9000-9010']
  assert.equal(formatAttached(TERMINAL, record), `web  eth0  10.210.0.2/22,fd00::2/64  via tsnet0\n${ports.map((port) => `  ${port}\n`).join('')}`)
  assert.equal(formatAttached(PLAIN, record), `web\teth0\t10.210.0.2/22,fd00::2/64\ttsnet0\n${ports.map((port) => `${port}\n`).join('')}`)
})

test('formatList() has a head and aligned columns on a terminal only', () => {
  const id = 'a'.repeat(64)
  const all: readonly Attachment[] = [attached, { owner: { ...owner, containerID: id }, status: 'unreadable' }]
  assert.equal(
    formatList(PLAIN, all),
    `tsnet\tweb\teth0\t10.210.0.2/22,fd00::2/64\t8080->80/tcp,127.0.0.1:8000-8010->9000-9010/udp\tweb\ntsnet\t${id}\teth0\t-\t-\t- (unreadable)\n`,
  )
  const [head = '', first = '', second = ''] = formatList(TERMINAL, all).split('\n')
  assert.match(head, /^NETWORK {2}ID {12}INTERFACE {2}ADDRESS +PORTS +NAMESPACE$/)
  assert.equal(first.indexOf('web'), head.indexOf('ID'))
  assert.match(second, /^tsnet {4}a{12} {2}eth0/)
  assert.equal(formatList(PLAIN, []), '')
})

test('formatAttachment() tells the way of a packet', () => {
  const text = formatAttachment(PLAIN, attached, { backend: 'iptables', masquerade: true })
  assert.match(text, /^Way in\t0\.0\.0\.0:8080\/tcp -> nat PREROUTING, TSNET-DNAT -> 10\.210\.0\.2:80 -> tsnet0 -> tsn000000000001 -> eth0 in web$/m)
  assert.match(text, /^Way out\teth0 -> tsn000000000001 -> tsnet0 \(10\.210\.0\.1, fd00::1\)/m)
  assert.match(formatAttachment(PLAIN, { owner, status: 'unreadable' }, { backend: 'iptables', masquerade: true }), /^Status\tunreadable: /m)
})

test('shortPorts() tells a port of both families once', () => {
  assert.deepEqual(shortPorts(record.ports), ['8080->80/tcp', '127.0.0.1:8000-8010->9000-9010/udp'])
})

test('jsonOf() adds the status', () => {
  assert.deepEqual(JSON.parse(jsonOf([attached, { owner, status: 'unreadable' }])), [
    { ...record, status: 'attached' },
    { ...owner, status: 'unreadable' },
  ])
})

test('formatTable() and formatFields() colour only where there are colours', () => {
  assert.equal(
    formatTable(TERMINAL, [
      ['A', 'B'],
      ['long', 'x'],
    ]),
    'A     B\nlong  x\n',
  )
  assert.equal(formatTable({ ...TERMINAL, colours: true }, [['A', 'B']]), '\u001b[1mA  B\u001b[0m\n')
  assert.equal(
    formatFields(TERMINAL, [
      ['Key', ['a', 'b']],
      ['Longer', []],
    ]),
    'Key  a\n     b\n',
  )
})

test('formatError() is one line with a hint', () => {
  assert.equal(
    formatError(new TsnetError('TSNET_X', 'Cannot do it', { details: 'because', hint: 'Do that' })),
    'tsnet: Cannot do it; because. Hint: Do that\n',
  )
  assert.equal(formatError(new TsnetError('TSNET_X', 'Cannot do it')), 'tsnet: Cannot do it. Hint: docs/errors.md says more about TSNET_X\n')
  const list = new ErrorList('Cannot detach', [new TsnetError('TSNET_X', 'a\nb\u001b[31m', { hint: 'Do this' })])
  assert.equal(formatError(list), 'tsnet: Cannot detach: a b [31m. Hint: Do this\n')
})

test('formatError() shows a stack only when asked to', () => {
  const error = new RangeError('Maximum call stack size exceeded')
  assert.equal(formatError(error).split('\n').length, 2)
  assert.match(formatError(error), /^tsnet: Maximum call stack size exceeded\. Hint: This should not happen/)
  assert.match(formatError(error, true), /\n\s+at /)
  assert.match(formatError('thrown text'), /^tsnet: thrown text\. Hint: /)
})

test('formatRan() tells a person why plugins were not asked, and a program only that', () => {
  const ran = { action: 'status', network: 'web', asked: false }
  assert.equal(formatRan(PLAIN, ran, false), 'web\tnot asked\n')
  assert.equal(formatRan(TERMINAL, ran, false), 'web  not asked: the definition says a cniVersion before 1.1.0, which has no STATUS\n')
  assert.equal(formatRan(TERMINAL, { ...ran, asked: true }, false), 'web  ready\n')
})
