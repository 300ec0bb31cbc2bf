/** Text for a terminal and text for a pipe: tables and colours belong to the first only. */

export interface Style {
  readonly terminal: boolean
  /** How wide the terminal is. */
  readonly columns: number
  readonly colours: boolean
}

/** What a pipe, a file and a test get. */
export const PLAIN: Style = { terminal: false, columns: 80, colours: false }

const CODES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33 } as const

export type Colour = keyof typeof CODES

/** @returns The text in a colour, where there are colours. */
export function paint(style: Style, colour: Colour, text: string): string {
  return style.colours ? `\u001b[${CODES[colour]}m${text}\u001b[0m` : text
}

/**
 * @param rows The first is the head.
 * @returns Aligned columns under a head for a terminal; else the rows without the head, fields parted by tabs.
 */
export function formatTable(style: Style, rows: readonly (readonly string[])[]): string {
  if (!style.terminal) return formatLines(rows.slice(1).map((row) => row.join('\t')))
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return formatLines(
    rows.map((row, i) => {
      const line = row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))).join('  ')
      return i === 0 ? paint(style, 'bold', line) : line
    }),
  )
}

/** @returns A key and its values in each line, aligned for a terminal; a key without a text in front of each further value. */
export function formatFields(style: Style, fields: readonly (readonly [key: string, values: readonly string[]])[]): string {
  const present = fields.filter(([, values]) => values.length > 0)
  if (!style.terminal) return formatLines(present.flatMap(([key, values]) => values.map((value) => `${key}\t${value}`)))
  const width = Math.max(0, ...present.map(([key]) => key.length))
  return formatLines(
    present.flatMap(([key, values]) => values.map((value, i) => `${paint(style, 'bold', (i === 0 ? key : '').padEnd(width))}  ${value}`)),
  )
}

function formatLines(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join('')
}
