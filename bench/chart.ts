/** Draws the figures: a line for each comparison, two dots on it, and what came out. The same figures give the same bytes. */
import type { SavedCase } from './figures.ts'
import type { Row } from './series.ts'

/** What has milliseconds, or a rate, on both sides; in this order. */
const CASES = ['agent', 'agent-standing', 'agent-burst', 'agent-rate', 'agent-cpu', 'agent-ipam', 'runtimes']

const WIDTH = 980
const LINE = 24
const HEAD = 64
const LABELS = { left: 16, right: WIDTH - 16 }
const PLOT = { left: 430, right: 740 }

const STYLE = `text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600;font-size:15px}.small{font-size:11px;fill:#59636e}
.grid{stroke:#d1d9e0}.span{stroke:#818b98;stroke-width:2}.ours{fill:#0969da}.theirs{fill:#818b98}.missed{fill:#bc4c00}.end{text-anchor:end}.middle{text-anchor:middle}.back{fill:#fff}
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.small{fill:#9198a1}.grid{stroke:#3d444d}.span{stroke:#9198a1}.ours{fill:#4493f8}.theirs{fill:#9198a1}.missed{fill:#f0883e}.back{fill:#0d1117}}`

interface Group {
  readonly title: string
  readonly rows: readonly Row[]
}

/** @returns An SVG document that reads on light and on dark ground. */
export function drawFigures(figures: readonly SavedCase[]): string {
  const rows = CASES.flatMap((name) => figures.find((saved) => saved.case === name)?.rows ?? []).filter(hasTarget)
  const groups = [
    { title: 'Milliseconds: less is better', rows: rows.filter(({ atLeast }) => atLeast === undefined) },
    { title: 'Calls a second: more is better', rows: rows.filter(({ atLeast }) => atLeast !== undefined) },
  ].filter((group) => group.rows.length > 0)
  const parts: string[] = []
  let y = HEAD
  for (const group of groups) {
    parts.push(...drawGroup(group, y))
    y += LINE * (group.rows.length + 3)
  }
  const machine = [...new Set(figures.filter((saved) => CASES.includes(saved.case)).map((saved) => saved.machine))].at(-1) ?? ''
  const legend = [
    `<text class="title" x="${LABELS.left}" y="24">tsnet against the reference plugins</text>`,
    `<text class="small" x="${LABELS.left}" y="42">${escaped(machine)}</text>`,
    `<circle class="ours" cx="${PLOT.left + 100}" cy="20" r="5"/><text x="${PLOT.left + 112}" y="24">tsnet</text>`,
    `<circle class="theirs" cx="${PLOT.left + 170}" cy="20" r="5"/><text x="${PLOT.left + 182}" y="24">what it is compared with</text>`,
    `<text class="end" x="${LABELS.right}" y="24">ratio, target</text>`,
  ]
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y}" role="img" aria-label="tsnet against the reference plugins">`,
    `<style>${STYLE}</style>`,
    `<rect class="back" width="${WIDTH}" height="${y}"/>`,
    ...legend,
    ...parts,
    '</svg>',
    '',
  ].join('\n')
}

function hasTarget({ target, atLeast }: Row): boolean {
  return target !== undefined || atLeast !== undefined
}

/** Decades stand at even distances: what is compared differs by a factor, not by a number of milliseconds. */
function drawGroup({ title, rows }: Group, top: number): readonly string[] {
  const values = rows.flatMap(({ subject, other }) => [subject.median, other.median]).filter((value) => value > 0)
  const low = Math.floor(Math.log10(Math.min(...values)))
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))))
  const x = (value: number) => number(PLOT.left + ((Math.log10(value) - low) / (high - low)) * (PLOT.right - PLOT.left))
  const bottom = top + LINE * (rows.length + 1)
  const decades = Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i))
  return [
    `<text class="title" x="${LABELS.left}" y="${top + 12}">${escaped(title)}</text>`,
    ...decades.flatMap((value) => [
      `<line class="grid" x1="${x(value)}" x2="${x(value)}" y1="${top + 16}" y2="${bottom}"/>`,
      `<text class="small middle" x="${x(value)}" y="${bottom + 14}">${plain(value)}</text>`,
    ]),
    ...rows.flatMap((row, i) => drawRow(row, top + LINE * (i + 1) + 8, x)),
  ]
}

function drawRow(row: Row, y: number, x: (value: number) => string): readonly string[] {
  const [ours, theirs] = [row.subject.median, row.other.median]
  const less = row.target !== undefined
  const met = less ? row.ratio <= (row.target ?? 0) : row.ratio >= (row.atLeast ?? 0)
  const aim = less ? `≤ ${plain(row.target ?? 0)}` : `≥ ${plain(row.atLeast ?? 0)}`
  const figures = `${plain(ours)} : ${plain(theirs)}`
  return [
    `<text x="${LABELS.left}" y="${y + 4}">${escaped(row.case)} <tspan class="small">: ${escaped(row.against)}</tspan></text>`,
    `<line class="span" x1="${x(ours)}" x2="${x(theirs)}" y1="${y}" y2="${y}"/>`,
    `<circle class="theirs" cx="${x(theirs)}" cy="${y}" r="5"/>`,
    `<circle class="ours" cx="${x(ours)}" cy="${y}" r="5"/>`,
    `<text class="small" x="${PLOT.right + 14}" y="${y + 4}">${figures}</text>`,
    `<text class="end${met ? '' : ' missed'}" x="${LABELS.right}" y="${y + 4}">${plain(row.ratio)} ${aim}${met ? '' : ' missed'}</text>`,
  ]
}

/** Three digits that count. */
function plain(value: number): string {
  return String(Number(value.toPrecision(value >= 1000 ? 4 : 3)))
}

function number(value: number): string {
  return value.toFixed(1)
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}
