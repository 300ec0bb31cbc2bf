/** The input of iptables-restore: a change of rules as text. Pure. */
import { CHAINS, type Rule, type TableName } from './rule.ts'

/** What iptables-save said: the chains of each table and the rules, `table chain spec`, with how often each stands there. */
export interface SavedRules {
  readonly chains: ReadonlySet<string>
  readonly rules: ReadonlyMap<string, number>
}

export interface TableChange {
  readonly add: readonly Rule[]
  readonly remove: readonly Rule[]
  /** `table chain` of chains to create and to delete. */
  readonly createChains: readonly string[]
  readonly deleteChains: readonly string[]
}

const TABLES: readonly TableName[] = ['raw', 'nat', 'filter']

/** Every chain of ours as `table chain`. */
export const OUR_CHAINS: readonly string[] = TABLES.flatMap((table) => CHAINS[table].map((chain) => `${table} ${chain}`))

/** @returns The text for `iptables-restore --noflush`, or undefined when nothing is to be changed. */
export function formatRestore(change: TableChange): string | undefined {
  const tables = TABLES.flatMap((table) => {
    const of = (rules: readonly Rule[]) => rules.filter((rule) => rule.table === table)
    const chains = (names: readonly string[]) => names.filter((name) => name.startsWith(`${table} `)).map((name) => name.slice(table.length + 1))
    const lines = [
      // `:chain` would empty a chain that another process has made meanwhile; this is refused then.
      ...chains(change.createChains).map((chain) => `-N ${chain}`),
      ...of(change.remove).map((rule) => `-D ${rule.chain} ${rule.spec}`),
      ...of(change.add).map((rule) => `${rule.first === true ? '-I' : '-A'} ${rule.chain} ${rule.spec}`),
      ...chains(change.deleteChains).map((chain) => `-X ${chain}`),
    ]
    return lines.length === 0 ? [] : [`*${table}`, ...lines, 'COMMIT']
  })
  return tables.length === 0 ? undefined : `${tables.join('\n')}\n`
}

/** @param text What iptables-save prints. */
export function parseSave(text: string): SavedRules {
  const chains = new Set<string>()
  const rules = new Map<string, number>()
  let table = ''
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1)
    else if (line.startsWith(':')) chains.add(`${table} ${line.slice(1, line.indexOf(' '))}`)
    else if (line.startsWith('-A ')) {
      const key = `${table} ${line.slice(3)}`
      rules.set(key, (rules.get(key) ?? 0) + 1)
    }
  }
  return { chains, rules }
}

/** @returns The rule's key in {@link SavedRules}. */
export function ruleKey(rule: Rule): string {
  return `${rule.table} ${rule.chain} ${rule.spec}`
}

/** @returns The rule that stands under a key. */
export function ruleFromKey(key: string): Rule {
  const [table, chain, ...spec] = key.split(' ')
  return { table: table as TableName, chain: chain ?? '', spec: spec.join(' ') }
}
