/** The verbs of rtnetlink on queueing disciplines and filters. @see tc(8) */
import { isErrno } from '../error.ts'
import { NLM_F_CREATE, NLM_F_EXCL } from '../wire/netlink-message.ts'
import {
  decodeQdisc,
  decodeRedirect,
  encodePlainQdisc,
  encodeRedirect,
  encodeTokenBucket,
  type Qdisc,
  RTM_DELQDISC,
  RTM_GETQDISC,
  RTM_GETTFILTER,
  RTM_NEWQDISC,
  RTM_NEWTFILTER,
  TC_H_INGRESS,
  TC_H_ROOT,
  type TokenBucket,
} from '../wire/traffic-control.ts'
import type { NetlinkSocket } from './socket.ts'

/** 1:0 and ffff:0. */
const ROOT_HANDLE = 0x10000
const INGRESS_HANDLE = 0xffff0000
const FIRST_CLASS = 0x10001
/** Priority 1, and htons(ETH_P_ALL). */
const EVERY_PROTOCOL = (1 << 16) | 0x0300
const U32 = 2 ** 32

/** What tbf lets out of a link. */
export interface ShapedRate extends Pick<TokenBucket, 'limit' | 'buffer'> {
  /** Bytes a second. */
  readonly bytesPerSecond: bigint
}

/** Replaces no discipline that somebody has put there. @throws KernelError EEXIST */
export function addTokenBucket(rt: NetlinkSocket, index: number, { bytesPerSecond, limit, buffer }: ShapedRate): void {
  const large = bytesPerSecond >= BigInt(U32)
  const rate64 = Buffer.alloc(8)
  rate64.writeBigUInt64LE(bytesPerSecond)
  const parameters = { rate: large ? U32 - 1 : Number(bytesPerSecond), limit, buffer }
  rt.execute({
    operation: `limit the rate of the link with index ${index}`,
    type: RTM_NEWQDISC,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: (w) => encodeTokenBucket(w, { index, handle: ROOT_HANDLE, parent: TC_H_ROOT, info: 0 }, { parameters, ...(large && { rate64 }) }),
  })
}

/**
 * Sends everything that comes in by one link out of another one, all or nothing.
 * @throws KernelError EEXIST when somebody has an ingress discipline there
 */
export function redirectIngress(rt: NetlinkSocket, index: number, to: number): void {
  rt.execute({
    operation: `add an ingress queue to the link with index ${index}`,
    type: RTM_NEWQDISC,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: (w) => encodePlainQdisc(w, { index, handle: INGRESS_HANDLE, parent: TC_H_INGRESS, info: 0 }, 'ingress'),
  })
  try {
    rt.execute({
      operation: `redirect what comes in by the link with index ${index}`,
      type: RTM_NEWTFILTER,
      flags: NLM_F_CREATE | NLM_F_EXCL,
      body: (w) => encodeRedirect(w, { index, handle: 0, parent: INGRESS_HANDLE, info: EVERY_PROTOCOL }, { classid: FIRST_CLASS, to }),
    })
  } catch (error) {
    deleteQdisc(rt, index, 'ingress')
    throw error
  }
}

/** @param where The discipline for what leaves, or for what comes in, with its filters. @returns Whether there was one */
export function deleteQdisc(rt: NetlinkSocket, index: number, where: 'root' | 'ingress'): boolean {
  const parent = where === 'root' ? TC_H_ROOT : TC_H_INGRESS
  const body = { index, handle: 0, parent, info: 0 }
  try {
    rt.execute({ operation: `delete the ${where} queue of the link with index ${index}`, type: RTM_DELQDISC, body: (w) => encodePlainQdisc(w, body) })
    return true
  } catch (error) {
    // EINVAL: only the discipline that the kernel itself has put there.
    if (isErrno(error, 'ENOENT', 'ENODEV', 'EINVAL')) return false
    throw error
  }
}

/** @returns The rate that the link's root discipline lets out; undefined when it is no token bucket. */
export function shapedRate(rt: NetlinkSocket, index: number): ShapedRate | undefined {
  const found = qdiscsOf(rt, index).find(({ parent }) => parent === TC_H_ROOT)?.tokenBucket
  if (found?.parameters === undefined) return undefined
  const { rate, limit, buffer } = found.parameters
  return { bytesPerSecond: found.rate64 === undefined ? BigInt(rate) : Buffer.from(found.rate64).readBigUInt64LE(), limit, buffer }
}

/** @returns The index of the link that everything goes to that comes in by this one; undefined when nothing is redirected. */
export function ingressTarget(rt: NetlinkSocket, index: number): number | undefined {
  if (!qdiscsOf(rt, index).some(({ parent }) => parent === TC_H_INGRESS)) return undefined
  const wanted = { index, handle: 0, parent: INGRESS_HANDLE, info: 0 }
  const targets = rt.dump({ operation: 'list the filters', type: RTM_GETTFILTER, body: (w) => encodePlainQdisc(w, wanted) }, (m) =>
    decodeRedirect(m.body),
  )
  return targets.find((target) => target !== undefined)
}

function qdiscsOf(rt: NetlinkSocket, index: number): readonly Qdisc[] {
  const wanted = { index, handle: 0, parent: 0, info: 0 }
  const found = rt.dump({ operation: 'list the queueing disciplines', type: RTM_GETQDISC, body: (w) => encodePlainQdisc(w, wanted) }, (m) =>
    decodeQdisc(m.body),
  )
  return found.filter((qdisc) => qdisc.index === index)
}
