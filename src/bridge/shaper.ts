/** Limits to what a container may receive and send, on the host's end of its veth pair, as the reference bandwidth plugin sets them. */
import { readFileSync } from 'node:fs'
import { createLink, deleteLink, findLink, type ObservedLink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { addTokenBucket, deleteQdisc, ingressTarget, redirectIngress, type ShapedRate, shapedRate } from '../netlink/traffic-control.ts'
import { IFF_UP } from '../wire/link.ts'

/** How long a packet may wait, seconds. */
const LATENCY = 0.025
const MICROSECONDS = 1e6

export interface RateLimit {
  /** Bits a second. */
  readonly rate: number
  /** Bits that may go at once. */
  readonly burst: number
}

/** Of one container; what is absent is not limited. */
export interface RateLimits {
  /** To what it receives. */
  readonly ingress?: RateLimit
  /** To what it sends. */
  readonly egress?: RateLimit
}

/** Limits what goes to the container. @param index Of the host's end */
export function limitIngress(host: NetlinkSocket, index: number, limit: RateLimit): void {
  addTokenBucket(host, index, shapedRateOf(limit))
}

export function unlimitIngress(host: NetlinkSocket, index: number): void {
  deleteQdisc(host, index, 'root')
}

/**
 * What a container sends takes a detour by a link of its own, since only what leaves a link can be limited.
 * @param mtu Bytes.
 * @throws KernelError EEXIST when there is a link of that name; then nothing is made
 */
export function createDetour(host: NetlinkSocket, { name, mtu }: { readonly name: string; readonly mtu: number }, limit: RateLimit): void {
  createLink(host, `create the ifb link "${name}"`, { ifname: name, mtu, txQueueLength: 0, linkinfo: { kind: 'ifb' } }, IFF_UP)
  try {
    addTokenBucket(host, findLink(host, name)?.index ?? 0, shapedRateOf(limit))
  } catch (error) {
    deleteLink(host, name)
    throw error
  }
}

/** @returns The ifb link of that name, if there is one. */
export function findDetour(host: NetlinkSocket, name: string): ObservedLink | undefined {
  const link = findLink(host, name)
  return link?.linkinfo?.kind === 'ifb' ? link : undefined
}

/** @returns Whether there was one. */
export function deleteDetour(host: NetlinkSocket, name: string): boolean {
  return findDetour(host, name) !== undefined && deleteLink(host, name)
}

/** @param index Of the host's end. @throws KernelError EEXIST when somebody has an ingress discipline there */
export function takeDetour(host: NetlinkSocket, index: number, name: string): void {
  redirectIngress(host, index, findLink(host, name)?.index ?? 0)
}

export function leaveDetour(host: NetlinkSocket, index: number): void {
  deleteQdisc(host, index, 'ingress')
}

/** @returns What is not limited as it should be, in words. */
export function missingIngressLimit(host: NetlinkSocket, index: number, limit: RateLimit): readonly string[] {
  return isSame(shapedRate(host, index), shapedRateOf(limit)) ? [] : [`what it receives is not limited to ${limit.rate} bit/s`]
}

export function missingEgressLimit(
  host: NetlinkSocket,
  { index, name }: { readonly index: number; readonly name: string },
  limit: RateLimit,
): readonly string[] {
  const ifb = findLink(host, name)?.index
  const complete = ifb !== undefined && ingressTarget(host, index) === ifb && isSame(shapedRate(host, ifb), shapedRateOf(limit))
  return complete ? [] : [`what it sends is not limited to ${limit.rate} bit/s`]
}

/** @see containernetworking/plugins plugins/meta/bandwidth/ifb_creator.go, createTBF; iproute2 tc/q_tbf.c */
export function shapedRateOf({ rate, burst }: RateLimit, ticks = ticksPerMicrosecond()): ShapedRate {
  const bytesPerSecond = Math.floor(rate / 8)
  const burstBytes = Math.floor(burst / 8)
  const buffer = Math.floor(Math.floor((burstBytes * MICROSECONDS) / bytesPerSecond) * ticks)
  const limit = Math.floor(bytesPerSecond * LATENCY) + burstBytes
  return { bytesPerSecond: BigInt(bytesPerSecond), limit: limit % 2 ** 32, buffer: buffer % 2 ** 32 }
}

/** The kernel tells what it read: the burst comes back as ticks, and both may be rounded. */
function isSame(present: ShapedRate | undefined, wanted: ShapedRate): boolean {
  return present !== undefined && present.bytesPerSecond === wanted.bytesPerSecond && present.limit === wanted.limit
}

/** @see iproute2 tc/tc_core.c, tc_core_init; kernel net/sched/sch_api.c, psched_show */
function ticksPerMicrosecond(): number {
  const [toMicroseconds = 0, toTicks = 1, resolution = 0] = readFileSync('/proc/net/psched', 'utf8')
    .split(' ')
    .map((text) => Number.parseInt(text, 16))
  return ((resolution === 1e9 ? toTicks : toMicroseconds) / toTicks) * (resolution / MICROSECONDS)
}
