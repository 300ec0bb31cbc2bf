/**
 * The iptables backend. A change is one iptables-restore a family. The usual one is written blindly: it only appends
 * and deletes rules that are known to be absent and present. When the kernel refuses that (the first call, a firewall
 * that was reloaded, a process that was killed half way), the rules are read once, and just what differs is written.
 */
import { existsSync, readFileSync } from 'node:fs'
import { listTables, openNftables } from '../../netlink/nftables.ts'
import type { RunningProgram } from '../../sys/spawn.ts'
import type { Family } from '../../wire/ip-address.ts'
import type { Backend, PendingChange, RuleChange, RulePart } from '../backend.ts'
import { familiesOf } from '../model.ts'
import { findIptables, finishSave, iptablesFailed, startRestore, startSave } from './program.ts'
import { formatRestore, OUR_CHAINS, parseSave, ruleFromKey, ruleKey, type SavedRules, type TableChange } from './restore.ts'
import { attachmentRules, baseRules, networkRules, ownerMark, type Rule, USER_CHAIN } from './rule.ts'

// include/uapi/linux/netfilter.h
const NFPROTO_IPV4 = 2
const NFPROTO_IPV6 = 10
const FAMILIES: readonly Family[] = [4, 6]
/** Between reading the rules and writing the difference, others may write too. */
const ATTEMPTS = 5
const USER = `filter ${USER_CHAIN}`
const NOTHING: RulePart = { networks: [], attachments: [] }

export const iptables: Backend = {
  name: 'iptables',
  ensureAvailable: (families) => {
    for (const family of families) findIptables(family, 'restore')
  },
  isInUse,
  startChange,
  removeOwner,
  findMissing: (part) => familiesInUse(part).flatMap((family) => missingIn(readRules(family), [...baseRules(family), ...rulesOf(family, part)])),
}

/** The legacy variant has tables of its own, the nft variant tables with the old names, made with the first rule. */
function isInUse(): boolean {
  if (caught(() => findIptables(4, 'restore')).length > 0) return false
  const legacy = ['ip_tables_names', 'ip6_tables_names'].some(
    (name) => existsSync(`/proc/net/${name}`) && readFileSync(`/proc/net/${name}`, 'utf8') !== '',
  )
  if (legacy) return true
  using nft = openNftables()
  return listTables(nft).some(({ family, name }) => (family === NFPROTO_IPV4 || family === NFPROTO_IPV6) && ['filter', 'nat'].includes(name))
}

/** Both families run at the same time. */
function startChange(change: RuleChange): PendingChange {
  const { add = NOTHING, remove = NOTHING, expect = NOTHING } = change
  const pending: PendingChange[] = []
  try {
    for (const family of familiesInUse(add, remove)) {
      const base = change.base === 'drop' && change.dropIn?.includes(family) === false ? 'keep' : change.base
      pending.push(startFamily(family, { add: rulesOf(family, add), expect: rulesOf(family, expect), remove: rulesOf(family, remove), base }))
    }
  } catch (error) {
    for (const one of pending) caught(one.finish)
    throw error
  }
  return {
    finish: () => {
      const errors = pending.flatMap((one) => caught(one.finish))
      if (errors.length > 0) throw errors[0]
    },
  }
}

interface FamilyChange {
  readonly add: readonly Rule[]
  readonly expect: readonly Rule[]
  readonly remove: readonly Rule[]
  readonly base: RuleChange['base']
}

function startFamily(family: Family, change: FamilyChange): PendingChange {
  if (change.base === 'ensure') {
    const saving = startSave(family)
    return { finish: () => reconcile(family, change, parseSave(finishSave(saving))) }
  }
  const text = formatRestore(blindChange(family, change))
  if (text === undefined) return { finish: () => {} }
  const running: RunningProgram = startRestore(family, text)
  return {
    finish: () => {
      if (running.finish().status !== 0) reconcile(family, change)
    },
  }
}

/** Deleting a chain that is in use is refused, and the table's transaction with it: another network's rules are safe. */
function blindChange(family: Family, change: FamilyChange): TableChange {
  const drop = change.base === 'drop'
  return {
    add: change.add,
    remove: drop ? [...change.remove, ...baseRules(family)] : change.remove,
    createChains: [],
    deleteChains: drop ? chainsOf(family) : [],
  }
}

/** Reads the rules and writes what differs; again if that is refused, since then somebody else wrote in between. */
function reconcile(family: Family, change: FamilyChange, saved = readRules(family)): void {
  for (let attempt = 1; ; attempt++) {
    const text = formatRestore(difference(family, change, attempt === 1 ? saved : readRules(family)))
    if (text === undefined) return
    const outcome = startRestore(family, text).finish()
    if (outcome.status === 0) return
    if (attempt === ATTEMPTS) throw iptablesFailed(`write the ${family === 4 ? 'IPv4' : 'IPv6'} rules`, outcome)
  }
}

function difference(family: Family, change: FamilyChange, saved: SavedRules): TableChange {
  const base = baseRules(family)
  const wanted = new Set(change.add.map(ruleKey))
  const remove = asSaved(
    saved,
    change.remove.filter((rule) => !wanted.has(ruleKey(rule))),
  )
  if (change.add.length > 0 || change.base === 'ensure') {
    const again = base.filter((rule) => isOutOfOrder(saved, rule.chain, base))
    const missing = [...base, ...change.expect, ...change.add].filter((rule) => !saved.rules.has(ruleKey(rule)))
    const add = [...again, ...missing.filter((rule) => !again.includes(rule))]
    const createChains = chainsOf(family).filter((chain) => !saved.chains.has(chain))
    return { add, remove: [...remove, ...asSaved(saved, again)], createChains, deleteChains: [] }
  }
  if (change.base === 'drop' && !usedByOthers(saved, [...base, ...remove])) {
    const deleteChains = OUR_CHAINS.filter((chain) => saved.chains.has(chain) && !(chain === USER && isFilled(saved, chain)))
    return { add: [], remove: [...remove, ...asSaved(saved, base)], createChains: [], deleteChains }
  }
  return { add: [], remove, createChains: [], deleteChains: [] }
}

/** What stands in a chain of ours for every network has an order: where one is lost, all are written anew, in one transaction. */
function isOutOfOrder(saved: SavedRules, chain: string, base: readonly Rule[]): boolean {
  const wanted = base.filter((rule) => rule.chain === chain).map(ruleKey)
  if (!chain.startsWith('TSNET-') || wanted.length < 2) return false
  const present = [...saved.rules.keys()].filter((key) => wanted.includes(key))
  return present.length > 0 && present.join('\n') !== wanted.join('\n')
}

function isFilled(saved: SavedRules, chain: string): boolean {
  return [...saved.rules.keys()].some((key) => key.startsWith(`${chain} `))
}

/** @returns The rules as often as each is there: one that a firewall's reload doubled would keep its chain in use. */
function asSaved(saved: SavedRules, rules: readonly Rule[]): readonly Rule[] {
  const once = new Map(rules.map((rule) => [ruleKey(rule), rule]))
  return [...once].flatMap(([key, rule]) => Array.from({ length: saved.rules.get(key) ?? 0 }, () => rule))
}

/** @returns Our chains as `table chain`; IPv6 has none in the table raw. */
function chainsOf(family: Family): readonly string[] {
  return OUR_CHAINS.filter((chain) => family === 4 || !chain.startsWith('raw '))
}

/** @returns Whether a chain of ours, but the administrator's, holds a rule that is none of `ours`. */
function usedByOthers(saved: SavedRules, ours: readonly Rule[]): boolean {
  const known = new Set(ours.map(ruleKey))
  const chains = OUR_CHAINS.filter((chain) => chain !== USER)
  return [...saved.rules.keys()].some((key) => chains.some((chain) => key.startsWith(`${chain} `)) && !known.has(key))
}

function removeOwner(owner: string): void {
  const mark = ownerMark(owner)
  for (const family of FAMILIES) {
    if (caught(() => findIptables(family, 'restore')).length > 0) continue
    const rules = [...readRules(family).rules.keys()].filter((key) => key.includes(` ${mark} `)).map(ruleFromKey)
    if (rules.length > 0) reconcile(family, { add: [], expect: [], remove: rules, base: 'keep' })
  }
}

function missingIn(saved: SavedRules, rules: readonly Rule[]): readonly string[] {
  return rules.filter((rule) => !saved.rules.has(ruleKey(rule))).map((rule) => `${rule.table}: -A ${rule.chain} ${rule.spec}`)
}

function rulesOf(family: Family, part: RulePart): readonly Rule[] {
  return [
    ...part.networks.flatMap((network) => networkRules(family, network)),
    ...part.attachments.flatMap((attachment) => attachmentRules(family, attachment)),
  ]
}

function familiesInUse(...parts: readonly RulePart[]): readonly Family[] {
  const families = parts.flatMap((part) => [
    ...part.networks.flatMap(familiesOf),
    ...part.attachments.flatMap((attachment) => attachment.ports.map((port) => port.address.family)),
  ])
  return FAMILIES.filter((family) => families.includes(family))
}

function readRules(family: Family): SavedRules {
  return parseSave(finishSave(startSave(family)))
}

function caught(act: () => unknown): unknown[] {
  try {
    act()
    return []
  } catch (error) {
    return [error]
  }
}
