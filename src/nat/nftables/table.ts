/** Tables as requests: made whole, or made good chain by chain. Pure. */

import { nftRequest } from '../../netlink/nftables.ts'
import type { Request } from '../../netlink/socket.ts'
import { NLM_F_APPEND, NLM_F_CREATE } from '../../wire/netlink-message.ts'
import { NFPROTO_INET, NFT_MSG, NFT_SET_CONCAT, NFT_SET_INTERVAL, NFT_SET_MAP, nftables } from '../../wire/nftables.ts'
import { FIELD_LENGTH, type Field } from './expression.ts'
import { CHAINS, type ChainDefinition, SETS, type SetDefinition, TABLE, USER_CHAIN } from './ruleset.ts'

/** A part of a key or of data: what `nft list` calls its type, and its bytes. */
export interface KeyPart {
  readonly type: number
  readonly length: number
}

export interface SetLayout {
  readonly name: string
  readonly key: readonly KeyPart[]
  /** Elements are ranges of keys. */
  readonly interval?: boolean
  /** Present in a map. */
  readonly data?: readonly KeyPart[] | 'verdict'
  /** What `nft list` needs to know beside: see HOST_BYTE_ORDER. */
  readonly userdata?: Uint8Array
}

export interface TableDefinition {
  /** NFPROTO_… */
  readonly family: number
  readonly name: string
  readonly sets: readonly SetLayout[]
  readonly chains: readonly ChainDefinition[]
  /** A chain whose rules are the administrator's. */
  readonly userChain?: string
}

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
/** Tells `nft list` how to read a key that is a name or a number. @see libnftnl include/udata.h, NFTNL_UDATA_SET_KEYBYTEORDER */
export const HOST_BYTE_ORDER = Uint8Array.of(0, 4, 1, 0, 0, 0)

const INET: TableDefinition = { family: NFPROTO_INET, name: TABLE, sets: SETS.map(layoutOf), chains: CHAINS, userChain: USER_CHAIN }

/** @returns The chain of every rule of a table, in its order. @param table `inet tsnet` unless another is told */
export function ruleChains({ chains }: TableDefinition = INET): readonly string[] {
  return chains.flatMap(({ name, rules }) => rules().map(() => name))
}

/**
 * Makes what is missing of table, sets, chains and rules; what is there already stays, but for rules of ours, which are written anew.
 * @param table `inet tsnet` unless another is told
 */
export function declareTable(table: TableDefinition = INET): readonly Request[] {
  const { name, family, sets, chains, userChain } = table
  return [
    nftRequest(`create the table "${name}"`, NFT_MSG.NEWTABLE, { table: nftables.table, value: { name, flags: 0 }, flags: NLM_F_CREATE, family }),
    ...chains.map((chain) => declareChain(table, chain)),
    ...sets.map((set, index) => declareSet(table, set, index)),
    ...chains.filter((chain) => chain.name !== userChain).flatMap((chain) => writeRules(table, chain)),
  ]
}

/** Deletes the table with everything in it. @param table `inet tsnet` unless another is told */
export function deleteTable({ name, family }: Pick<TableDefinition, 'name' | 'family'> = INET): readonly Request[] {
  return [nftRequest(`delete the table "${name}"`, NFT_MSG.DELTABLE, { table: nftables.table, value: { name }, family })]
}

function layoutOf({ name, key, interval, data }: SetDefinition): SetLayout {
  const parts = (fields: readonly Field[]) => fields.map((field) => ({ type: TYPE[field], length: FIELD_LENGTH[field] }))
  return {
    name,
    key: parts(key),
    interval,
    ...(data && {
      data:
        data === 'verdict'
          ? data
          : parts([data.family === 4 ? 'destination4' : 'destination6', ...(data.port ? (['destinationPort'] as const) : [])]),
    }),
    ...(key.length === 1 && { userdata: HOST_BYTE_ORDER }),
  }
}

function declareSet({ name: table, family }: TableDefinition, set: SetLayout, index: number): Request {
  const concat = set.interval && { description: { concat: set.key.map(({ length }) => ({ length })) } }
  const flags = (set.interval ? NFT_SET_INTERVAL | NFT_SET_CONCAT : 0) | (set.data ? NFT_SET_MAP : 0)
  const value = {
    table,
    name: set.name,
    flags,
    keyType: typeOf(set.key),
    keyLength: lengthOf(set.key),
    ...(set.data && dataOf(set.data)),
    ...(concat || {}),
    id: index + 1,
    ...(set.userdata && { userdata: set.userdata }),
  }
  return nftRequest(`create the set "${set.name}"`, NFT_MSG.NEWSET, { table: nftables.set, value, flags: NLM_F_CREATE, family })
}

function declareChain({ name: table, family }: TableDefinition, { name, hook }: ChainDefinition): Request {
  const base = hook && { hook: { hooknum: hook.hooknum, priority: hook.priority }, policy: NF_ACCEPT, chainType: hook.type }
  const value = { table, name, ...base }
  return nftRequest(`create the chain "${name}"`, NFT_MSG.NEWCHAIN, { table: nftables.chain, value, flags: NLM_F_CREATE, family })
}

/** In one transaction no packet sees the chain empty. */
function writeRules({ name: table, family }: TableDefinition, { name, rules }: ChainDefinition): readonly Request[] {
  const flush = nftRequest(`flush the chain "${name}"`, NFT_MSG.DELRULE, { table: nftables.rule, value: { table, chain: name }, family })
  const write = rules().map((expressions) =>
    nftRequest(`write a rule of "${name}"`, NFT_MSG.NEWRULE, {
      table: nftables.rule,
      value: { table, chain: name, expressions },
      flags: NLM_F_CREATE | NLM_F_APPEND,
      family,
    }),
  )
  return [flush, ...write]
}

function typeOf(parts: readonly KeyPart[]): number {
  return parts.reduce((type, part) => type * 64 + part.type, 0)
}

function dataOf(data: NonNullable<SetLayout['data']>): { readonly dataType: number; readonly dataLength?: number } {
  return data === 'verdict' ? { dataType: NFT_DATA_VERDICT } : { dataType: typeOf(data), dataLength: lengthOf(data) }
}

/** Each part fills whole quarters of a register. */
function lengthOf(parts: readonly KeyPart[]): number {
  return parts.reduce((sum, { length }) => sum + 4 * Math.ceil(length / 4), 0)
}
