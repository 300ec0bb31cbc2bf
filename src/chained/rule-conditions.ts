/** Conditions that an administrator wants in the rules of published ports, as words of iptables or of nft. Pure. */
import { invalidField } from '../cni/json.ts'
import { parseAddress, parsePrefix } from '../wire/ip-address.ts'

export type ConditionLanguage = 'iptables' | 'nftables'

const MOST = 64
const LONGEST = 128
/** A word of iptables: nothing that quotes, separates or comments. */
const IPTABLES_WORD = /^[\w.,:/!+=%@*-]+$/
/** Of the options of one letter, those that only match. */
const MATCHING_LETTERS = ['-s', '-d', '-i', '-o', '-p', '-m', '-f']
/** What is no match, or does something else than matching; getopt takes every beginning of such a word for it. */
const FORBIDDEN_OPTIONS = ['jump', 'goto', 'table', 'modprobe', 'help', 'version', 'verbose', 'wait', 'exact', 'numeric', 'line-numbers']
const NFT_WORD = /^(?:[\w.,:/!=<>&|{}@*^-]+|"[\w.*-]+")$/
/** Statements that end a rule's evaluation, or change the packet. */
const FORBIDDEN_WORDS = [
  ...['accept', 'drop', 'reject', 'queue', 'continue', 'return', 'jump', 'goto', 'dnat', 'snat', 'redirect', 'masquerade', 'tproxy', 'notrack'],
  ...['set', 'add', 'update', 'delete', 'dup', 'fwd', 'comment', 'log', 'include', 'define'],
]

/** @returns In which language the words are: iptables' first one is an option, or a negation. Undefined when there are none. */
export function languageOf(words: readonly string[]): ConditionLanguage | undefined {
  const [first] = words
  if (first === undefined) return undefined
  return first.startsWith('-') || first.startsWith('!') ? 'iptables' : 'nftables'
}

/** @throws TsnetError TSNET_CONFIG, CNI code 7, for a word that does not only match */
export function checkConditions(words: readonly string[], key: string): void {
  if (words.length > MOST) throw invalidField(key, words.length, `a list of up to ${MOST} words`)
  const allowed = languageOf(words) === 'iptables' ? isIptablesMatch : isNftMatch
  for (const [i, word] of words.entries()) {
    if (word.length > LONGEST || !allowed(word)) throw invalidField(`${key}[${i}]`, word, 'a word of a match')
  }
}

function isIptablesMatch(word: string): boolean {
  if (!IPTABLES_WORD.test(word)) return false
  if (!word.startsWith('-')) return true
  const [, name] = /^--([\w-]+)/.exec(word) ?? []
  return name === undefined ? MATCHING_LETTERS.includes(word) : !FORBIDDEN_OPTIONS.some((option) => option.startsWith(name))
}

function isNftMatch(word: string): boolean {
  if (!NFT_WORD.test(word)) return false
  if (word.startsWith('"') || parsePrefix(word) !== undefined || parseAddress(word) !== undefined) return true
  // A map may be one word, {22:accept}, and nft ends a number where a letter comes: 1accept.
  const parts = word.toLowerCase().split(/[^\w./-]+/)
  return !parts.some((part) => FORBIDDEN_WORDS.includes(part.replace(/^.*\d|^[/-]+/, '')))
}
