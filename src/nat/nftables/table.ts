/** The table as requests: made whole, or made good chain by chain. Pure. */

import { nftRequest } from '../../netlink/nftables.ts'
import type { Request } from '../../netlink/socket.ts'
import { NLM_F_APPEND, NLM_F_CREATE } from '../../wire/netlink-message.ts'
import { NFT_MSG, NFT_SET_CONCAT, NFT_SET_INTERVAL, NFT_SET_MAP, nftables } from '../../wire/nftables.ts'
import { FIELD_LENGTH, type Field } from './expression.ts'
import { CHAINS, type ChainDefinition, fieldsLength, SETS, type SetDefinition, TABLE, USER_CHAIN } from './ruleset.ts'

/** What `nft list` calls a field's type; a concatenation has six bits for each. @see nftables include/datatype.h */
const TYPE: Readonly<Record<Field, number>> = {
  source4: 7,
  destination4: 7,
  source6: 8,
  destination6: 8,
  l4proto: 12,
  destinationPort: 13,
  iifname: 41,
  oifname: 41,
}
const NF_ACCEPT = 1
const NFT_DATA_VERDICT = 0xffffff00
/** Tells `nft list` how to read a key that is a name. @see libnftnl include/udata.h, NFTNL_UDATA_SET_KEYBYTEORDER */
const HOST_BYTE_ORDER = Uint8Array.of(0, 4, 1, 0, 0, 0)

/** @returns The chain of every rule that tsnet writes, in the order of the table. */
export const RULE_CHAINS: readonly string[] = CHAINS.flatMap(({ name, rules }) => rules.map(() => name))

/** Makes what is missing of table, sets, chains and rules; what is there already stays, but for rules of ours, which are written anew. */
export function declareTable(): readonly Request[] {
  const create = (what: string, type: number) => ({ operation: `create the ${what}`, type, flags: NLM_F_CREATE })
  const table = create(`table "${TABLE}"`, NFT_MSG.NEWTABLE)
  return [
    nftRequest(table.operation, table.type, { table: nftables.table, value: { name: TABLE, flags: 0 }, flags: table.flags }),
    ...CHAINS.map(declareChain),
    ...SETS.map(declareSet),
    ...CHAINS.filter(({ name }) => name !== USER_CHAIN).flatMap(writeRules),
  ]
}

/** Deletes the table with everything in it. */
export function deleteTable(): readonly Request[] {
  return [nftRequest(`delete the table "${TABLE}"`, NFT_MSG.DELTABLE, { table: nftables.table, value: { name: TABLE } })]
}

function declareSet(set: SetDefinition, index: number): Request {
  const concat = set.interval && { description: { concat: set.key.map((field) => ({ length: FIELD_LENGTH[field] })) } }
  const data = set.data && dataOf(set.data)
  const flags = (set.interval ? NFT_SET_INTERVAL | NFT_SET_CONCAT : 0) | (set.data ? NFT_SET_MAP : 0)
  const value = {
    table: TABLE,
    name: set.name,
    flags,
    keyType: typeOf(set.key),
    keyLength: fieldsLength(set.key),
    ...(data && { dataType: data.type, ...(data.length !== undefined && { dataLength: data.length }) }),
    ...(concat || {}),
    id: index + 1,
    ...(set.key.length === 1 && { userdata: HOST_BYTE_ORDER }),
  }
  return nftRequest(`create the set "${set.name}"`, NFT_MSG.NEWSET, { table: nftables.set, value, flags: NLM_F_CREATE })
}

function declareChain({ name, hook }: ChainDefinition): Request {
  const base = hook && { hook: { hooknum: hook.hooknum, priority: hook.priority }, policy: NF_ACCEPT, chainType: hook.type }
  const value = { table: TABLE, name, ...base }
  return nftRequest(`create the chain "${name}"`, NFT_MSG.NEWCHAIN, { table: nftables.chain, value, flags: NLM_F_CREATE })
}

/** In one transaction no packet sees the chain empty. */
function writeRules({ name, rules }: ChainDefinition): readonly Request[] {
  const flush = nftRequest(`flush the chain "${name}"`, NFT_MSG.DELRULE, { table: nftables.rule, value: { table: TABLE, chain: name } })
  const write = rules.map((expressions) =>
    nftRequest(`write a rule of "${name}"`, NFT_MSG.NEWRULE, {
      table: nftables.rule,
      value: { table: TABLE, chain: name, expressions },
      flags: NLM_F_CREATE | NLM_F_APPEND,
    }),
  )
  return [flush, ...write]
}

function typeOf(fields: readonly Field[]): number {
  return fields.reduce((type, field) => type * 64 + TYPE[field], 0)
}

function dataOf(data: NonNullable<SetDefinition['data']>): { readonly type: number; readonly length?: number } {
  if (data === 'verdict') return { type: NFT_DATA_VERDICT }
  const { family, port } = data
  const fields: readonly Field[] = [family === 4 ? 'destination4' : 'destination6', ...(port ? (['destinationPort'] as const) : [])]
  return { type: typeOf(fields), length: fieldsLength(fields) }
}
