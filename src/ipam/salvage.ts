/** What can still be read of a subnet file that is damaged. */
import { TsnetError } from '../error.ts'
import { isLeaseRow, type LeaseLine, parseHead, parseRow, type SubnetHead } from './subnet-file.ts'

export interface Salvage {
  /** Absent when it cannot be read. */
  readonly head?: SubnetHead
  /** Every line that is one, of each address the first. */
  readonly lines: readonly LeaseLine[]
}

/** @param path What the file is called. */
export function salvage(text: string, path: string): Salvage {
  const rows = text.split('\n')
  const first = rows.findIndex(isLeaseRow)
  const lines = new Map<string, LeaseLine>()
  for (const line of rows.flatMap((row) => parseRow(row) ?? [])) if (!lines.has(line.address)) lines.set(line.address, line)
  const head = readHead(first < 0 ? rows : rows.slice(0, first), path)
  return { lines: [...lines.values()], ...(head && { head }) }
}

function readHead(rows: readonly string[], path: string): SubnetHead | undefined {
  try {
    return parseHead(rows, path)
  } catch (error) {
    if (error instanceof TsnetError) return undefined
    throw error
  }
}
