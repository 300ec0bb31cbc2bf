/** The figures that are kept: figures.json as data, and figures.svg drawn from it. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { drawFigures } from './chart.ts'
import type { Row } from './series.ts'

/** One case as it was measured last. */
export interface SavedCase {
  readonly case: string
  /** Processor, kernel, node and date, as one line. */
  readonly machine: string
  /** Load average of the last minute before the benchmark began. */
  readonly load: number
  readonly repetitions: number
  readonly rows: readonly Row[]
}

/** Puts cases in the place of what was saved of them before; the others stay. @param folder Where figures.json and figures.svg are. */
export function saveFigures(folder: string, cases: readonly SavedCase[]): void {
  const path = join(folder, 'figures.json')
  const before = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as readonly SavedCase[]) : []
  const kept = before.map((saved) => cases.find((now) => now.case === saved.case) ?? saved)
  const figures = [...kept, ...cases.filter((now) => !before.some((saved) => saved.case === now.case))]
  writeFileSync(path, `${JSON.stringify(figures, rounded, 2)}\n`)
  drawSaved(folder)
}

/** Draws figures.svg from figures.json, and from nothing else. */
export function drawSaved(folder: string): void {
  writeFileSync(join(folder, 'figures.svg'), drawFigures(JSON.parse(readFileSync(join(folder, 'figures.json'), 'utf8')) as readonly SavedCase[]))
}

/** A microsecond is finer than what can be measured. */
function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' ? Number(value.toFixed(4)) : value
}
