/** The seam between what the rules shall say and who writes them: one folder a backend, nobody else knows its tools. */
import type { Family } from '../wire/ip-address.ts'
import type { AttachmentRules, NetworkRules } from './model.ts'

/** A part of the rules: some networks, some attachments. */
export interface RulePart {
  readonly networks: readonly NetworkRules[]
  readonly attachments: readonly AttachmentRules[]
}

export interface RuleChange {
  readonly add?: RulePart
  readonly remove?: RulePart
  /** What should be there already: it is made good where something else turns out to be missing. */
  readonly expect?: RulePart
  /** What holds for all networks: `keep` expects it there, `ensure` makes what is missing, `drop` deletes it if nothing uses it. */
  readonly base: 'keep' | 'ensure' | 'drop'
  /** The families that `drop` means, where networks of others are left; both when absent. */
  readonly dropIn?: readonly Family[]
}

/** A change under way: `finish` waits for its end and must be called exactly once. */
export interface PendingChange {
  /** @throws TsnetError when the rules are not as asked for */
  finish(): void
}

export interface Backend {
  readonly name: 'iptables' | 'nftables'
  /** @throws TsnetError with CNI code 50 when its tools are missing */
  ensureAvailable(families: readonly Family[]): void
  /** Whether somebody has rules in it on this host, so that rules elsewhere could not undo what these forbid. */
  isInUse(): boolean
  /** Starts one transaction a family. The caller may do other work before it calls `finish`. */
  startChange(change: RuleChange): PendingChange
  /** Removes every rule that carries the owner's mark, for when nobody knows any more which there were. */
  removeOwner(owner: string): void
  /** @returns The rules that should be there and are not, as text. */
  findMissing(part: RulePart): readonly string[]
}
