/** The chart of the benchmark: drawn from figures.json alone. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { drawFigures } from '../../bench/chart.ts'
import type { SavedCase } from '../../bench/figures.ts'

const summary = (median: number) => ({ median, p95: median, repetitions: 20 })
const saved = (rows: SavedCase['rows']): readonly SavedCase[] => [{ case: 'agent', machine: 'a machine', load: 0.1, repetitions: 20, rows }]
const row = { case: 'ADD', subject: summary(5), against: 'reference', other: summary(50), ratio: 0.1 }

test('drawFigures() draws the figures that are committed, byte by byte', () => {
  const figures = JSON.parse(readFileSync('bench/figures.json', 'utf8')) as readonly SavedCase[]
  assert.equal(drawFigures(figures), readFileSync('bench/figures.svg', 'utf8'))
})

test('drawFigures() says that a target is missed, in both directions', () => {
  const missed = (more: object) => / missed</.test(drawFigures(saved([{ ...row, ...more }])))
  assert.equal(missed({ target: 0.1 }), false)
  assert.equal(missed({ target: 0.09 }), true)
  assert.equal(missed({ ratio: 10, atLeast: 10 }), false)
  assert.equal(missed({ ratio: 9.9, atLeast: 10 }), true)
})

test('drawFigures() puts ten times the milliseconds one decade to the right', () => {
  const places = [
    ...drawFigures(saved([{ ...row, target: 1, subject: summary(10), other: summary(100) }])).matchAll(
      /class="(?:ours|theirs)" cx="([\d.]+)" cy="(?!20")/g,
    ),
  ]
  assert.deepEqual(
    places.map(([, x]) => Number(x)),
    [740, 430],
  )
})

test('drawFigures() leaves out what has no target, and lets no name become markup', () => {
  const text = drawFigures(
    saved([
      { ...row, case: '<b>&"', target: 1 },
      { ...row, case: 'no aim' },
    ]),
  )
  assert.ok(text.includes('&lt;b&gt;&amp;&quot;'))
  assert.ok(!text.includes('no aim'))
})
