/** Tables of nftables that the reference plugins share, written by the program nft: conditions of administrators are in its language. */
import { CNI_CODE, isErrno, TsnetError } from '../error.ts'
import { hasTable, openNftables } from '../netlink/nftables.ts'
import { findProgram } from '../sys/program-path.ts'
import { type Outcome, startProgram } from '../sys/spawn.ts'
import { NFPROTO_INET } from '../wire/nftables.ts'

const TIMEOUT_MS = 15_000
/** Between reading the rules and writing the change, others may write too. */
const ATTEMPTS = 5
/** @see include/uapi/linux/netfilter.h */
const NFPROTO = { inet: NFPROTO_INET, ip: 2, ip6: 10 } as const
/** Characters of the longest comment that nft takes. */
const LONGEST_COMMENT = 128

export interface NftTable {
  readonly family: keyof typeof NFPROTO
  readonly name: string
}

/** A rule as `nft -j` lists it. */
export interface NftRule {
  readonly chain: string
  readonly handle: number
  readonly comment?: string
  readonly expr: readonly unknown[]
}

/** @returns Whether the program is installed. */
export function hasNft(): boolean {
  return findProgram('nft') !== undefined
}

/** @throws TsnetError with CNI code 50 when it is not */
export function requireNft(): string {
  const path = findProgram('nft')
  if (path !== undefined) return path
  throw new TsnetError('TSNET_NO_NFT', 'Cannot write the rules: nft is not installed', {
    cniCode: CNI_CODE.notAvailable,
    hint: 'Install the package nftables, or use the backend iptables',
  })
}

/** @returns All rules of a table; none when there is no such table, for which nft is not asked. @throws TsnetError when they cannot be listed */
export function listNftRules({ family, name }: NftTable): readonly NftRule[] {
  if (!isThere({ family, name })) return []
  const outcome = run(['-j', '-a', 'list', 'table', family, name], '')
  if (outcome.status !== 0) throw failed('list the rules', outcome)
  const { nftables } = JSON.parse(outcome.stdout) as { readonly nftables: readonly { readonly rule?: NftRule }[] }
  return nftables.flatMap(({ rule }) => rule ?? [])
}

/**
 * Reads a table, and writes one transaction.
 * @param work Commands that lead from what is there to what is wanted; none when it is there already.
 * @throws TsnetError when nft is missing, or the change is refused for another reason than that somebody else wrote too
 */
export function editNftTable(table: NftTable, work: (rules: readonly NftRule[]) => readonly string[]): void {
  let refused = ''
  for (let attempt = 1; ; attempt++) {
    const lines = work(listNftRules(table))
    if (lines.length === 0) return
    const script = `${lines.join('\n')}\n`
    const outcome = run(['-f', '-'], script)
    if (outcome.status === 0) return
    if (script === refused || attempt === ATTEMPTS) throw failed('write the rules', outcome)
    refused = script
  }
}

/** @returns The text as nft takes it for a rule: cut where it is too long, without what would end it. */
export function nftComment(text: string): string {
  return text.replace(/["\\\p{Cc}]/gu, '').slice(0, LONGEST_COMMENT)
}

/** A kernel without nf_tables has no such subsystem. @see net/netfilter/nfnetlink.c, nfnetlink_rcv_msg */
function isThere({ family, name }: NftTable): boolean {
  try {
    using nft = openNftables()
    return hasTable(nft, { family: NFPROTO[family], name })
  } catch (error) {
    if (isErrno(error, 'EINVAL', 'EOPNOTSUPP', 'EPROTONOSUPPORT')) return false
    throw error
  }
}

function run(args: readonly string[], stdin: string): Outcome {
  return startProgram({ path: requireNft(), args, stdin, inheritsLocks: true, timeoutMs: TIMEOUT_MS }).finish()
}

function failed(what: string, { status, stderr }: Outcome): TsnetError {
  const problem = stderr.trim().split('\n')[0] ?? ''
  return new TsnetError('TSNET_NFT', `Cannot ${what}: ${problem === '' ? `nft ended with status ${status}` : problem}`)
}
