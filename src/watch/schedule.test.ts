import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Cause } from './cause.ts'
import { type Outcome, Schedule } from './schedule.ts'

const EVERY_MS = 30_000

interface Looks {
  readonly schedule: Schedule
  /** `<millisecond>: <causes>` */
  readonly seen: readonly string[]
  readonly tick: (ms: number) => void
}

/** A schedule on a clock of the test's own, which begins at 0. */
function scheduled(t: TestContext, outcome: () => Outcome): Looks {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] })
  const seen: string[] = []
  const look = (causes: readonly Cause[]) => {
    seen.push(`${Date.now()}: ${causes.join(', ')}`)
    return outcome()
  }
  const tick = (ms: number) => {
    for (let left = ms; left > 0; left -= 10) t.mock.timers.tick(10)
  }
  return { schedule: new Schedule(EVERY_MS, look), seen, tick }
}

const RIGHT: Outcome = { made: false, failed: false }

test('Schedule looks once for many events, a tenth of a second after the last', (t) => {
  const { schedule, seen, tick } = scheduled(t, () => RIGHT)
  for (let i = 0; i < 5; i++) {
    schedule.note('rules were deleted')
    schedule.note('links changed')
    tick(50)
  }
  tick(1000)
  assert.deepEqual(seen, ['300: rules were deleted, links changed'])
})

test('Schedule looks a second after the first event though events go on', (t) => {
  const { schedule, seen, tick } = scheduled(t, () => RIGHT)
  for (let i = 0; i < 50; i++) {
    schedule.note('links changed')
    tick(50)
  }
  assert.deepEqual(seen, ['1000: links changed', '2000: links changed'])
})

test('Schedule looks without any event when time is up, counted from the last look', (t) => {
  const { schedule, seen, tick } = scheduled(t, () => RIGHT)
  schedule.lookNow('it started')
  tick(10_000)
  schedule.note('links changed')
  tick(100)
  for (let i = 0; i < 6; i++) tick(EVERY_MS / 3)
  assert.deepEqual(seen, ['0: it started', '10100: links changed', '40100: time was up', '70100: time was up'])
})

test('Schedule tries again after a failure, later each time, and never later than without one', (t) => {
  let failed = true
  const { schedule, seen, tick } = scheduled(t, () => ({ made: false, failed }))
  schedule.lookNow('it started')
  for (let i = 0; i < 62; i++) tick(1000)
  assert.deepEqual(
    seen.map((line) => Number.parseInt(line, 10)),
    [0, 1000, 3000, 7000, 15_000, 31_000, 61_000],
  )
  assert.ok(seen.at(-2)?.endsWith('the last repair failed'))
  failed = false
  for (let i = 0; i < 60; i++) tick(1000)
  failed = true
  schedule.lookNow('it started')
  const before = seen.length
  tick(1000)
  assert.equal(seen.length, before + 1, 'the first retry comes soon again')
})

test('Schedule slows down against somebody who takes away what is made', (t) => {
  const looks = scheduled(t, () => ({ made: true, failed: false }))
  for (let i = 0; i < 6000; i++) {
    looks.schedule.note('rules were deleted')
    looks.tick(10)
  }
  assert.ok(looks.seen.length >= 55 && looks.seen.length <= 70, `${looks.seen.length} looks in a minute`)
})

test('Schedule does nothing any more when it is disposed of, whatever is noted', (t) => {
  const { schedule, seen, tick } = scheduled(t, () => RIGHT)
  schedule.lookNow('it started')
  schedule.note('links changed')
  schedule[Symbol.dispose]()
  schedule.note('links changed')
  schedule.lookNow('it started')
  tick(2 * EVERY_MS)
  assert.deepEqual(seen, ['0: it started'])
})
