/**
 * Changes of a table that tsnet shares with other programs, whose chains and rules have names that those know: one read of the
 * table at most, and one transaction.
 */
import type { Family } from '../../wire/ip-address.ts'
import { finishSave, iptablesFailed, startRestore, startSave } from './program.ts'
import type { TableName } from './rule.ts'

/** Between reading the rules and writing the change, others may write too. */
const ATTEMPTS = 5

/** The rules of each chain, in order, in the words of iptables-save after `-A CHAIN `. */
export type ChainRules = ReadonlyMap<string, readonly string[]>

export interface TableEdit {
  /** Lines that are right if nothing unusual has happened, and that the kernel refuses otherwise: they save the look at the rules. */
  readonly blind?: readonly string[]
  /** @returns The lines of iptables-restore that lead from what is there to what is wanted; none when it is there already */
  readonly work: (chains: ChainRules) => readonly string[]
}

/** @throws TsnetError when iptables is missing, or the change is refused for another reason than that somebody else wrote too */
export function editTable(family: Family, table: TableName, { blind, work }: TableEdit): void {
  if (blind !== undefined && (blind.length === 0 || restore(family, table, blind).status === 0)) return
  let refused = ''
  for (let attempt = 1; ; attempt++) {
    const lines = work(readTable(family, table))
    if (lines.length === 0) return
    const outcome = restore(family, table, lines)
    if (outcome.status === 0) return
    // What is refused and would be written again in the same words is not refused because of somebody else's change.
    if (lines.join('\n') === refused || attempt === ATTEMPTS) throw iptablesFailed(`write the ${family === 4 ? 'IPv4' : 'IPv6'} rules`, outcome)
    refused = lines.join('\n')
  }
}

/** @throws TsnetError when iptables is missing, or the rules cannot be listed */
export function readTable(family: Family, table: TableName): ChainRules {
  return parseTable(finishSave(startSave(family, table)))
}

/** @param text What iptables-save prints of one table. */
export function parseTable(text: string): ChainRules {
  const chains = new Map<string, string[]>()
  for (const line of text.split('\n')) {
    if (line.startsWith(':')) chains.set(line.slice(1, line.indexOf(' ')), [])
    const [, chain = '', spec = ''] = /^-A (\S+) (.*)$/.exec(line) ?? []
    if (chain !== '') chains.get(chain)?.push(spec)
  }
  return chains
}

/** @returns The option that marks a rule, in the words of iptables-save. @param comment At most 255 characters */
export function commentMatch(comment: string): string {
  const escaped = comment.replace(/["\\']/g, '\\$&')
  return `-m comment --comment ${/[^a-zA-Z0-9_:-]/.test(comment) ? `"${escaped}"` : escaped}`
}

function restore(family: Family, table: TableName, lines: readonly string[]) {
  return startRestore(family, `*${table}\n${lines.join('\n')}\nCOMMIT\n`).finish()
}
