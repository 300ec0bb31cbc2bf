/** Middle and tail of a series: runs are interleaved on a noisy machine, so means say little. */
import type { Cost } from './measure.ts'

export interface Summary {
  /** Milliseconds. */
  readonly median: number
  readonly p95: number
  /** Median processor time, milliseconds. */
  readonly cpu: number
  readonly repetitions: number
}

export function summarize(costs: readonly Cost[]): Summary {
  const walls = costs.map(({ wall }) => wall)
  return { median: median(walls), p95: quantile(walls, 0.95), cpu: median(costs.map(({ cpu }) => cpu)), repetitions: costs.length }
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const half = sorted.length >> 1
  const upper = sorted[half] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[half - 1] ?? Number.NaN)) / 2
}

/** Nearest rank: a value that was measured. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN
}
