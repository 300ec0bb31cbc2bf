/** Middle and tail of a series: runs are interleaved on a noisy machine, so means say little. */
import type { Cost } from './measure.ts'

export interface Summary {
  /** Milliseconds, or what the row says. */
  readonly median: number
  /** 95 of 100 samples were as good as this. */
  readonly p95: number
  /** Median processor time, milliseconds; absent where no program was timed. */
  readonly cpu?: number
  readonly repetitions: number
}

export function summarize(costs: readonly Cost[]): Summary {
  const walls = costs.map(({ wall }) => wall)
  return { median: median(walls), p95: quantile(walls, 0.95), cpu: median(costs.map(({ cpu }) => cpu)), repetitions: costs.length }
}

/** @param better Which end of the series is the good one. */
export function summarizeValues(values: readonly number[], better: 'more' | 'less'): Summary {
  return { median: median(values), p95: quantile(values, better === 'more' ? 0.05 : 0.95), repetitions: values.length }
}

/** For what a busy machine only ever makes slower: what the fastest twentieth of the samples reached; as its tail, their median. */
export function summarizeFastest(values: readonly number[], better: 'more' | 'less'): Summary {
  return { median: quantile(values, better === 'more' ? 0.95 : 0.05), p95: median(values), repetitions: values.length }
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
