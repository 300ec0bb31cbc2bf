/**
 * `macspoofchk` as the reference bridge plugin writes it into the table `bridge nat`, where other programs look for it: frames of a
 * port whose source is not the container's MAC address are dropped. One transaction each, without a program.
 * @see containernetworking/plugins pkg/link/spoofcheck.go
 */
import { hasChain, hasTable, listRules, nftRequest, openNftables, transactFor } from '../netlink/nftables.ts'
import type { NetlinkSocket, Request } from '../netlink/socket.ts'
import { decodeAttributes } from '../wire/attribute.ts'
import { NLM_F_APPEND, NLM_F_CREATE } from '../wire/netlink-message.ts'
import { type Expression, expressions, NFPROTO_BRIDGE, NFT_MSG, nftables } from '../wire/nftables.ts'
import { commentFor, encodeComment } from './nftables/element.ts'
import { arrivedBy, verdict } from './nftables/expression.ts'
import { bytesAre } from './source-guard/expression.ts'
import { explained } from './source-guard/guard.ts'

const FAMILY = NFPROTO_BRIDGE
const TABLE = { family: FAMILY, name: 'nat' }
const BASE_CHAIN = 'PREROUTING'
// include/uapi/linux/netfilter_bridge.h: NF_BR_PRE_ROUTING, NF_BR_PRI_NAT_DST_BRIDGED
const HOOK = { hooknum: 0, priority: -300 }
const NF_ACCEPT = 1
/** Where a frame has its source. */
const ETHER_SOURCE = { base: 'link', offset: 6, length: 6 } as const

/** Whose frames are checked. */
export interface CheckedContainer {
  readonly containerID: string
  readonly ifname: string
}

export interface CheckedPort extends CheckedContainer {
  /** The link that frames come by: the host's end of the veth pair. */
  readonly name: string
  /** Six bytes. */
  readonly mac: Uint8Array
}

/** What stood there for the same interface goes in the same transaction. @throws TsnetError with CNI code 50 when the kernel cannot filter frames of bridges */
export function setUpSpoofCheck(port: CheckedPort): void {
  using nft = openNftables()
  explained(() => transactFor(nft, () => [...(hasTable(nft, TABLE) ? removal(nft, port) : []), ...declaration(port), ...rulesOf(port).map(append)]))
}

/** What is gone already is no error. The table and its base chain stay: others use them too. */
export function tearDownSpoofCheck(container: CheckedContainer): void {
  using nft = openNftables()
  transactFor(nft, () => (hasTable(nft, TABLE) ? removal(nft, container) : []))
}

/** @returns What should be there and is not, as text. */
export function missingSpoofCheck(port: CheckedPort): readonly string[] {
  using nft = openNftables()
  const present = [BASE_CHAIN, ...Object.values(chainsOf(port))].flatMap((chain) => (hasTable(nft, TABLE) ? listRules(nft, TABLE, chain) : []))
  const isThere = (wanted: Rule) =>
    present.some(({ chain, expressions: found }) => chain === wanted.chain && sameExpressions(found ?? [], wanted.expressions))
  return rulesOf(port)
    .filter((rule) => !isThere(rule))
    .map(({ chain }) => `a rule of the chain "${chain}" in table bridge nat`)
}

interface Rule {
  readonly chain: string
  readonly expressions: readonly Expression[]
  readonly userdata: Uint8Array
}

function chainsOf({ containerID, ifname }: CheckedContainer): { readonly port: string; readonly mac: string } {
  const port = `cni-br-iface-${containerID}-${ifname}`
  return { port, mac: `${port}-mac` }
}

function rulesOf(port: CheckedPort): readonly Rule[] {
  const chains = chainsOf(port)
  const userdata = encodeComment(commentFor(`macspoofchk-${port.containerID}-${port.ifname}`))
  return [
    { chain: BASE_CHAIN, expressions: [...arrivedBy('is', port.name), verdict({ jump: chains.port })], userdata },
    { chain: chains.port, expressions: [verdict({ jump: chains.mac })], userdata },
    { chain: chains.mac, expressions: [...bytesAre(ETHER_SOURCE, [...port.mac]), verdict('return')], userdata },
    { chain: chains.mac, expressions: [verdict('drop')], userdata },
  ]
}

function declaration(port: CheckedPort): readonly Request[] {
  const { name } = TABLE
  const base = { hook: HOOK, policy: NF_ACCEPT, chainType: 'filter' }
  const chains = [{ name: BASE_CHAIN, ...base }, ...Object.values(chainsOf(port)).map((chain) => ({ name: chain }))]
  return [
    nftRequest(`create the table "${name}"`, NFT_MSG.NEWTABLE, {
      table: nftables.table,
      value: { name, flags: 0 },
      flags: NLM_F_CREATE,
      family: FAMILY,
    }),
    ...chains.map((chain) =>
      nftRequest(`create the chain "${chain.name}"`, NFT_MSG.NEWCHAIN, {
        table: nftables.chain,
        value: { table: name, ...chain },
        flags: NLM_F_CREATE,
        family: FAMILY,
      }),
    ),
  ]
}

function append(rule: Rule): Request {
  return nftRequest(`write a rule of "${rule.chain}"`, NFT_MSG.NEWRULE, {
    table: nftables.rule,
    value: { table: TABLE.name, ...rule },
    flags: NLM_F_CREATE | NLM_F_APPEND,
    family: FAMILY,
  })
}

/** The rule that leads to the chains is known by where it leads, whoever has written it. */
function removal(nft: NetlinkSocket, container: CheckedContainer): readonly Request[] {
  const { port, mac } = chainsOf(container)
  const leading = listRules(nft, TABLE, BASE_CHAIN).filter((rule) => rule.expressions?.some((expression) => leadsTo(expression, port)))
  const chains = [port, mac].filter((chain) => hasChain(nft, TABLE, chain))
  return [
    ...leading.map(({ handle }) => deleteRules(BASE_CHAIN, handle)),
    ...chains.map((chain) => deleteRules(chain)),
    ...chains.map((name) =>
      nftRequest(`delete the chain "${name}"`, NFT_MSG.DELCHAIN, { table: nftables.chain, value: { table: TABLE.name, name }, family: FAMILY }),
    ),
  ]
}

/** @param handle Of one rule; all of the chain without it. */
function deleteRules(chain: string, handle?: Uint8Array): Request {
  const value = { table: TABLE.name, chain, ...(handle && { handle }) }
  return nftRequest(`delete rules of "${chain}"`, NFT_MSG.DELRULE, { table: nftables.rule, value, family: FAMILY })
}

function leadsTo({ name, data }: Expression, chain: string): boolean {
  return name === 'immediate' && decodeAttributes(Buffer.from(data ?? []), expressions.immediate).data?.verdict?.chain === chain
}

/** The kernel tells more of an expression than it was told: each is compared by what it does. */
function sameExpressions(found: readonly Expression[], wanted: readonly Expression[]): boolean {
  const essence = (list: readonly Expression[]) => list.map(({ name, data }) => `${name} ${essentialOf(name, Buffer.from(data ?? []))}`).join(', ')
  return essence(found) === essence(wanted)
}

function essentialOf(name: string | undefined, data: Buffer): string {
  if (name === 'cmp') return Buffer.from(decodeAttributes(data, expressions.cmp).data?.value ?? []).toString('hex')
  if (name !== 'immediate') return ''
  const { code, chain } = decodeAttributes(data, expressions.immediate).data?.verdict ?? {}
  return `${code} ${chain}`
}
