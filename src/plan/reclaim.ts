/**
 * What the dead still hold: attachments of a former boot or of a namespace that is gone, and leases that no record names. A runtime
 * that was killed sends no DEL for them, so whoever would fail for want of an address or a port looks for them first.
 */
import { describe, TsnetError } from '../error.ts'
import { BY_HAND, type HeldLease, type LeaseOwner, leaseOwner } from '../ipam/lease.ts'
import { now } from '../sys/time.ts'
import { openBook } from './address-book.ts'
import type { PlanContext } from './attach.ts'
import { Attempts, detach } from './detach.ts'
import { listLiveOwners } from './live-leases.ts'
import type { Owner } from './owner.ts'
import { listOwners, readRecord } from './record.ts'
import { listNetworks, lockNetwork } from './state-folder.ts'
import { statusOf } from './status.ts'

/** A runtime waits meanwhile; what is left is found by the next call, or by `tsnet gc`. Milliseconds. */
const TIME_LIMIT_MS = 2_000

/** What an attachment can fail for that the dead have. */
const SCARCE = ['TSNET_POOL_FULL', 'TSNET_ADDRESS_TAKEN', 'TSNET_PORT_TAKEN', 'TSNET_NO_FREE_PORT', 'TSNET_NETWORK']

/**
 * @param act Leaves everything as it was when it fails. It must hold no lock yet.
 * @returns What it returns, at the second attempt where the first failed for want of something that the dead had
 */
export function afterReclaim<T>(act: () => T, context: PlanContext): T {
  try {
    return act()
  } catch (error) {
    if (!(error instanceof TsnetError) || !SCARCE.includes(error.code) || reclaimAll(context) === 0) throw error
    return act()
  }
}

/** @returns Whether the attachment's namespace was gone, and it was detached. The caller holds the network's lock. */
export function detachIfGone(owner: Owner, context: PlanContext): boolean {
  // Somebody may have attached a new namespace under the same id since it was found; only under the lock is it sure.
  return statusOf(readRecord(context.state, owner)) === 'gone' && detach(owner, { ...context, locked: true })
}

/**
 * Releases leases that no record names: of an ADD that was killed, or of an attachment whose record somebody deleted. That of one whose
 * interface lives stays: its address is in use. The caller holds the network's lock.
 * @param valid Who lives, as far as the caller knows.
 * @returns What was released
 */
export function releaseUnrecorded(network: string, valid: readonly Omit<Owner, 'network'>[], { state }: PlanContext): readonly HeldLease[] {
  using store = openBook(state, network)
  const holders = (owners: readonly Omit<Owner, 'network'>[]) => new Set<LeaseOwner>(owners.map((one) => leaseOwner(one.containerID, one.ifname)))
  const recorded = holders([...listOwners(state, network), ...valid])
  const unrecorded = store?.leases().filter(({ owner }) => owner !== BY_HAND && !recorded.has(owner)) ?? []
  if (unrecorded.length === 0) return []
  const living = holders(listLiveOwners(network))
  return unrecorded.filter(({ address, owner }) => !living.has(owner) && store?.release(owner, address))
}

/** @returns How many attachments and leases were reclaimed */
function reclaimAll(context: PlanContext): number {
  const end = now() + TIME_LIMIT_MS
  const errors = new Attempts()
  const counts = listNetworks(context.state).map((network) => errors.try(() => reclaim(network, end, context)) ?? 0)
  try {
    errors.finish('Cannot reclaim what the dead have')
  } catch (error) {
    context.warn(describe(error))
  }
  return counts.reduce((sum, count) => sum + count, 0)
}

function reclaim(network: string, end: number, context: PlanContext): number {
  using _lock = lockNetwork(context.state, network)
  let count = 0
  for (const owner of listOwners(context.state, network)) {
    if (now() > end) break
    if (detachIfGone(owner, context)) count++
  }
  return count + releaseUnrecorded(network, [], context).length
}
