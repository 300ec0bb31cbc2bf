import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openLog } from './log.ts'

function linesOf(options: { json: boolean; verbose: boolean }): readonly string[] {
  const lines: string[] = []
  const log = openLog(options, (line) => lines.push(line))
  log.info('failed', { command: 'ADD', container: 'c1', interface: undefined, ms: 3.2, reason: 'a "b"\nforged line' })
  log.warn('problems')
  log.detail('done', { command: 'DEL' })
  return lines
}

test('openLog() writes one line an event, whatever its facts hold', () => {
  assert.deepEqual(linesOf({ json: false, verbose: false }), [
    'tsnet agent: failed command=ADD container=c1 ms=3.2 reason="a \\"b\\"\\nforged line"\n',
    'tsnet agent: warning: problems\n',
  ])
})

test('openLog() writes JSON with time and level, and details when they are wanted', () => {
  const events = linesOf({ json: true, verbose: true }).map((line) => {
    assert.match(line, /^\{.*\}\n$/)
    const { time, ...rest } = JSON.parse(line) as Record<string, unknown>
    assert.match(String(time), /^\d{4}-\d\d-\d\dT/)
    return rest
  })
  assert.deepEqual(events, [
    { level: 'info', event: 'failed', command: 'ADD', container: 'c1', ms: 3.2, reason: 'a "b"\nforged line' },
    { level: 'warn', event: 'problems' },
    { level: 'detail', event: 'done', command: 'DEL' },
  ])
})
