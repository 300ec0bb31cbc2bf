import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseDaemonOptions, USAGE } from './command-line.ts'

const DEFAULTS = {
  socketPath: '/run/cni/dhcp.sock',
  hostPrefix: '',
  broadcast: false,
  timeoutMs: 10_000,
  resendMaxMs: 62_000,
  resendTimeoutMs: 208_000,
}

test("parseDaemonOptions() reads Go's flags, with one dash or two, and the last counts", () => {
  assert.deepEqual(parseDaemonOptions([]), DEFAULTS)
  const words = [
    '-socketpath',
    '/a',
    '--pidfile=/p',
    '-hostprefix',
    '/host/',
    '--broadcast',
    '-timeout',
    '1m30s',
    '--resendmax=1.5s',
    '-resendtimeout',
    '500ms',
  ]
  assert.deepEqual(parseDaemonOptions(words), {
    socketPath: '/a',
    pidFile: '/p',
    hostPrefix: '/host',
    broadcast: true,
    timeoutMs: 90_000,
    resendMaxMs: 1500,
    resendTimeoutMs: 500,
  })
  assert.equal(parseDaemonOptions(['-broadcast', '-broadcast=false'])?.broadcast, false)
  assert.deepEqual(parseDaemonOptions(['-socketpath', '', '-hostprefix=', '-pidfile', '']), DEFAULTS, 'an empty value is none')
})

test('parseDaemonOptions() refuses what means nothing', () => {
  for (const [words, message] of [
    [['-what'], /There is no option "-what"/],
    [['timeout', '1s'], /There is no option "timeout"/],
    [['-timeout'], /"-timeout" needs a value/],
    [['-timeout', '10'], /-timeout "10" is no duration/],
    [['-timeout=0s'], /is no duration from 10ms to 24h/],
    [['-resendmax', '25h'], /is no duration/],
    [['-socketpath', 'a/b'], /-socketpath "a\/b" is no absolute path/],
    [['-pidfile', '/a\0b'], /is no absolute path/],
    [['-broadcast=maybe'], /is neither true nor false/],
    [['-constructor', 'x'], /There is no option/],
  ] as const) {
    assert.throws(() => parseDaemonOptions(words), message, words.join(' '))
  }
})

test('the help names every option', () => {
  for (const word of ['-h', '--help']) assert.equal(parseDaemonOptions(['-broadcast', word]), undefined)
  for (const name of ['socketpath', 'hostprefix', 'pidfile', 'broadcast', 'timeout', 'resendmax', 'resendtimeout'])
    assert.match(USAGE, new RegExp(`^  -${name} `, 'm'))
})
