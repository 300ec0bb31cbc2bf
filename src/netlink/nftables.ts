/** The verbs of nf_tables: transactions, and looking things up. @see kernel: net/netfilter/nf_tables_api.c */
import { isErrno } from '../error.ts'
import { ENOENT } from '../sys/errno.ts'
import type { Infer, Table } from '../wire/attribute.ts'
import { NLM_F_CREATE } from '../wire/netlink-message.ts'
import {
  decodeNftables,
  encodeBatchMark,
  encodeNftables,
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NFPROTO_INET,
  NFT_MSG,
  nftables,
  type SetElement,
} from '../wire/nftables.ts'
import { openNetfilter } from './netfilter-socket.ts'
import type { NetlinkSocket, Request } from './socket.ts'

/** Elements of one message: an attribute's length has 16 bits. */
const ELEMENTS_PER_MESSAGE = 200
/** How often others may change rules while a change is worked out; each time costs a tenth of a millisecond. */
const ATTEMPTS = 50

/** A table's name, of the family inet unless another is told. */
export type TableId = string | { readonly family: number; readonly name: string }

/** An nf_tables socket of the namespace that the thread is in. The caller owns it. Closing it after a delete waits for RCU, unless it is kept. */
export function openNftables(): NetlinkSocket {
  return openNetfilter()
}

/** @returns A request of a transaction. @param flags NLM_F_CREATE and the like @param family NFPROTO_…, inet unless another is told */
export function nftRequest<T extends Table>(
  operation: string,
  type: number,
  more: { readonly table: T; readonly value: Infer<T>; readonly flags?: number; readonly family?: number },
): Request {
  return { operation, type, flags: more.flags ?? 0, body: (w) => encodeNftables(w, more.table, more.value, more.family) }
}

/**
 * Sends requests as one transaction: all of them happen, or none.
 * @param generation What `readGeneration` said: the transaction is refused with ERESTART when rules changed since
 * @throws KernelError of the first request that was refused
 */
export function transact(nft: NetlinkSocket, requests: readonly Request[], generation?: number): void {
  if (requests.length === 0) return
  nft.executeBatch(requests, {
    begin: { operation: 'begin a transaction', type: NFNL_MSG_BATCH_BEGIN, body: (w) => encodeBatchMark(w, generation) },
    end: { operation: 'commit a transaction', type: NFNL_MSG_BATCH_END, body: (w) => encodeBatchMark(w) },
  })
}

/**
 * Works requests out from what is there, and sends them for exactly that state; when somebody changed rules meanwhile, again.
 * @param work Reads over the socket; what it returns is one transaction
 * @throws KernelError of the first request that was refused
 */
export function transactFor(nft: NetlinkSocket, work: () => readonly Request[]): void {
  for (let attempt = 1; ; attempt++) {
    const generation = readGeneration(nft)
    try {
      return transact(nft, work(), generation)
    } catch (error) {
      if (!isErrno(error, 'ERESTART') || attempt === ATTEMPTS) throw error
    }
  }
}

/** @returns A number that grows with every transaction of anybody in this namespace. */
export function readGeneration(nft: NetlinkSocket): number {
  const request = nftRequest('read the generation of the rules', NFT_MSG.GETGEN, { table: nftables.generation, value: {} })
  return nft.find(request, -1, (message) => decodeNftables(message.body, nftables.generation))?.id ?? 0
}

/** @returns The tables of all families, NFPROTO_… and name. */
export function listTables(nft: NetlinkSocket): readonly { readonly family: number; readonly name: string }[] {
  const request: Request = { operation: 'list the tables', type: NFT_MSG.GETTABLE, body: (w) => encodeBatchMark(w) }
  return nft.dump(request, (message) => ({ family: message.body[0] ?? 0, name: decodeNftables(message.body, nftables.table).name ?? '' }))
}

export function hasTable(nft: NetlinkSocket, id: TableId): boolean {
  const { family, name } = identify(id)
  const request = nftRequest(`look up the table "${name}"`, NFT_MSG.GETTABLE, { table: nftables.table, value: { name }, family })
  return nft.find(request, ENOENT, () => true) === true
}

/** @returns The element with this key, or undefined when the set has none, or does not exist. */
export function findElement(nft: NetlinkSocket, table: TableId, set: string, key: SetElement): SetElement | undefined {
  const { family, name } = identify(table)
  const value = { table: name, set, elements: [key] }
  const request = nftRequest(`look up an element of "${set}"`, NFT_MSG.GETSETELEM, { table: nftables.elements, value, family })
  return nft.find(request, ENOENT, (message) => decodeNftables(message.body, nftables.elements))?.elements?.[0]
}

/** @returns All elements of a set. @throws KernelError ENOENT when there is no such set */
export function listElements(nft: NetlinkSocket, table: TableId, set: string): readonly SetElement[] {
  const { family, name } = identify(table)
  const request = nftRequest(`list the elements of "${set}"`, NFT_MSG.GETSETELEM, { table: nftables.elements, value: { table: name, set }, family })
  return nft.dump(request, (message) => decodeNftables(message.body, nftables.elements).elements ?? []).flat()
}

/** A rule as the kernel tells it: `handle` names it in a deletion. */
export type ObservedRule = Infer<typeof nftables.rule>

/** @param chain Only this one's. @returns The rules of a table, in order; none when there is no such table or chain */
export function listRules(nft: NetlinkSocket, table: TableId, chain: string): readonly ObservedRule[] {
  const { family, name } = identify(table)
  const request = nftRequest(`list the rules of "${name}"`, NFT_MSG.GETRULE, { table: nftables.rule, value: { table: name, chain }, family })
  // Kernels differ in whether they tell the rules of other chains too.
  return nft.dump(request, (message) => decodeNftables(message.body, nftables.rule)).filter((rule) => rule.table === name && rule.chain === chain)
}

export function hasChain(nft: NetlinkSocket, table: TableId, chain: string): boolean {
  const { family, name } = identify(table)
  const value = { table: name, name: chain }
  const request = nftRequest(`look up the chain "${chain}"`, NFT_MSG.GETCHAIN, { table: nftables.chain, value, family })
  return nft.find(request, ENOENT, () => true) === true
}

/** @returns The chain of every rule of a table, in order. */
export function listRuleChains(nft: NetlinkSocket, table: TableId): readonly string[] {
  const { family, name } = identify(table)
  const request = nftRequest(`list the rules of "${name}"`, NFT_MSG.GETRULE, { table: nftables.rule, value: { table: name }, family })
  return nft.dump(request, (message) => decodeNftables(message.body, nftables.rule).chain ?? '')
}

/** @returns Requests that add elements to a set; one that is there with the same data is no error, with other data EEXIST. */
export function addElements(table: TableId, set: string, elements: readonly SetElement[]): readonly Request[] {
  return elementRequests(`add to "${set}"`, NFT_MSG.NEWSETELEM, { table, set, elements })
}

/** @returns Requests that delete elements of a set. @throws (in the transaction) ENOENT when one is missing */
export function deleteElements(table: TableId, set: string, elements: readonly SetElement[]): readonly Request[] {
  return elementRequests(`delete from "${set}"`, NFT_MSG.DELSETELEM, { table, set, elements })
}

function elementRequests(
  operation: string,
  type: number,
  of: { readonly table: TableId; readonly set: string; readonly elements: readonly SetElement[] },
): readonly Request[] {
  const chunks = Array.from({ length: Math.ceil(of.elements.length / ELEMENTS_PER_MESSAGE) }, (_, i) =>
    of.elements.slice(i * ELEMENTS_PER_MESSAGE, (i + 1) * ELEMENTS_PER_MESSAGE),
  )
  const { family, name } = identify(of.table)
  return chunks.map((elements) =>
    nftRequest(operation, type, { table: nftables.elements, value: { table: name, set: of.set, elements }, flags: NLM_F_CREATE, family }),
  )
}

function identify(id: TableId): { readonly family: number; readonly name: string } {
  return typeof id === 'string' ? { family: NFPROTO_INET, name: id } : id
}
