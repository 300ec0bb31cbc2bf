/**
 * Masquerading in the table of nftables that all networks of the reference plugins share: a rule for each address, marked as the
 * interface's.
 * @see containernetworking/plugins pkg/ip/ipmasq_nftables_linux.go
 */
import type { ValidAttachment } from '../cni/valid-attachments.ts'
import type { Owner } from '../plan/owner.ts'
import { formatAddress, formatPrefix, type IpPrefix, networkAddress } from '../wire/ip-address.ts'
import { editNftTable, listNftRules, type NftRule, type NftTable, nftComment } from './nft-script.ts'
import { sha512 } from './sha512.ts'

const TABLE: NftTable = { family: 'inet', name: 'cni_plugins_masquerade' }
const CHAIN = 'masq_checks'
const IN_TABLE = `inet ${TABLE.name}`

/** Rules that an ADD of the same interface left behind go in the same transaction. */
export function addRules(owner: Owner, addresses: readonly IpPrefix[]): void {
  const comment = nftComment(commentOf(owner))
  editNftTable(TABLE, (rules) => [
    `add table ${IN_TABLE}`,
    `add chain ${IN_TABLE} ${CHAIN}`,
    `add chain ${IN_TABLE} postrouting { type nat hook postrouting priority 100 ; }`,
    `flush chain ${IN_TABLE} postrouting`,
    `add rule ${IN_TABLE} postrouting ip daddr == 224.0.0.0/4 return`,
    `add rule ${IN_TABLE} postrouting ip6 daddr == ff00::/8 return`,
    `add rule ${IN_TABLE} postrouting goto ${CHAIN}`,
    ...rulesOf(owner, rules).map(deletion),
    ...addresses.map((prefix) => `add rule ${IN_TABLE} ${CHAIN} ${ruleOf(prefix)} comment "${comment}"`),
  ])
}

export function removeRules(owner: Owner): void {
  editNftTable(TABLE, (rules) => rulesOf(owner, rules).map(deletion))
}

/** @returns The rules that should be there and are not, as text. */
export function missingRules(owner: Owner, addresses: readonly IpPrefix[]): readonly string[] {
  const rules = listNftRules(TABLE)
  const own = rulesOf(owner, rules).map(({ expr }) => JSON.stringify(expr))
  const lacking = addresses.filter(({ address }) => !own.some((text) => text.includes(`"${formatAddress(address)}"`)))
  const hooked = rules.some(({ chain, expr }) => chain === 'postrouting' && JSON.stringify(expr).includes(`"${CHAIN}"`))
  return [...(hooked ? [] : [`${IN_TABLE} postrouting: goto ${CHAIN}`]), ...lacking.map((prefix) => `${IN_TABLE} ${CHAIN}: ${ruleOf(prefix)}`)]
}

/** Removes the rules of every interface of a network but those that stay. */
export function removeOtherRules(network: string, valid: readonly ValidAttachment[]): void {
  const stay = valid.map(({ containerID, ifname }) => markOf({ network, containerID, ifname }))
  editNftTable(TABLE, (rules) =>
    rules
      .filter(
        ({ chain, comment = '' }) => chain === CHAIN && comment.startsWith(`${hash(network)}-`) && !stay.some((mark) => comment.startsWith(mark)),
      )
      .map(deletion),
  )
}

function rulesOf(owner: Owner, rules: readonly NftRule[]): readonly NftRule[] {
  const mark = markOf(owner)
  return rules.filter(({ chain, comment }) => chain === CHAIN && comment?.startsWith(mark) === true)
}

function deletion({ handle }: NftRule): string {
  return `delete rule ${IN_TABLE} ${CHAIN} handle ${handle}`
}

function ruleOf(prefix: IpPrefix): string {
  const { address } = prefix
  const ip = address.family === 4 ? 'ip' : 'ip6'
  const subnet = formatPrefix({ ...prefix, address: networkAddress(prefix) })
  return `${ip} saddr == ${formatAddress(address)} ${ip} daddr != ${subnet} masquerade`
}

function commentOf(owner: Owner): string {
  return `${markOf(owner)}, net: ${owner.network}, if: ${owner.ifname}, id: ${owner.containerID}`
}

function markOf({ network, containerID, ifname }: Owner): string {
  return `${hash(network)}-${hash(`${ifname}:${containerID}`)}`
}

function hash(text: string): string {
  return sha512(text).slice(0, 16)
}
