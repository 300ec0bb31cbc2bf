/** Aligned text tables. */

import type { Phase } from './profile.ts'
import type { Row } from './series.ts'

export function formatRows(rows: readonly Row[]): string {
  const head = ['case', 'tsnet', 'p95', 'cpu', 'against', 'median', 'p95', 'cpu', 'ratio', 'target', 'met?']
  const lines = rows.map(({ case: name, subject, against, other, ratio, target, atLeast }) => [
    name,
    ...[subject.median, subject.p95, subject.cpu].map(milliseconds),
    against,
    ...[other.median, other.p95, other.cpu].map(milliseconds),
    ratio.toFixed(2),
    ...verdict(ratio, { target, atLeast }),
  ])
  return formatTable([head, ...lines], [0, 4])
}

function verdict(
  ratio: number,
  { target, atLeast }: { readonly target?: number | undefined; readonly atLeast?: number | undefined },
): readonly string[] {
  if (target !== undefined) return [`<= ${Number(target.toFixed(2))}`, ratio <= target ? 'yes' : 'no']
  return atLeast === undefined ? ['', ''] : [`>= ${atLeast}`, ratio >= atLeast ? 'yes' : 'no']
}

/** @param calls Phases of an ADD and of a DEL. */
export function formatPhases(calls: readonly { readonly title: string; readonly phases: readonly Phase[] }[]): string {
  return calls
    .map(({ title, phases }) => {
      const total = phases.reduce((sum, phase) => sum + phase.median, 0)
      const lines = phases.map(({ name, median }) => [name, milliseconds(median), `${Math.round((100 * median) / total)} %`])
      return `${title}\n${formatTable([['phase', 'ms', 'share'], ...lines, ['sum', milliseconds(total), '']], [0])}`
    })
    .join('\n\n')
}

/** @param left Columns of text; the others are numbers, to the right. */
function formatTable(lines: readonly (readonly string[])[], left: readonly number[]): string {
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)))
  const format = (line: readonly string[]) =>
    line
      .map((cell, column) => (left.includes(column) ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ')
      .trimEnd()
  const [head = '', ...rest] = lines.map(format)
  return [head, widths.map((width) => '-'.repeat(width)).join('  '), ...rest].join('\n')
}

function milliseconds(value: number | undefined): string {
  return value === undefined ? '' : value.toFixed(value >= 1000 ? 0 : 1)
}
