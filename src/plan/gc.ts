/** GC: removes everything of a network's attachments that the caller does not list. */
import { existsSync } from 'node:fs'
import { openRtnetlink } from '../netlink/rtnetlink.ts'
import { checkTimeLimit } from '../sys/time-limit.ts'
import type { PlanContext } from './attach.ts'
import { Attempts, detach, removeIdleNetwork } from './detach.ts'
import type { Owner } from './owner.ts'
import { releaseUnrecorded } from './reclaim.ts'
import { listOwners } from './record.ts'
import { lockNetwork, networkFolder } from './state-folder.ts'

/**
 * @param valid The attachments that stay.
 * @returns What was removed.
 * @throws ErrorList with everything that could not be removed, after all else was
 */
export function collectGarbage(network: string, valid: readonly Omit<Owner, 'network'>[], context: PlanContext): readonly Owner[] {
  if (!existsSync(networkFolder(context.state, network))) return []
  using _lock = lockNetwork(context.state, network)
  const errors = new Attempts()
  const stays = (owner: Owner) => valid.some((other) => other.containerID === owner.containerID && other.ifname === owner.ifname)
  const stale = listOwners(context.state, network).filter((owner) => !stays(owner))
  for (const owner of stale) {
    // There may be very many: the next GC goes on.
    if (errors.try(checkTimeLimit) === undefined) break
    errors.try(() => detach(owner, { ...context, locked: true }))
  }
  errors.try(() => releaseUnrecorded(network, valid, context))
  errors.try(() => {
    using host = openRtnetlink()
    removeIdleNetwork(network, host, context)
  })
  errors.finish(`Cannot collect the garbage of network "${network}"`)
  return stale
}
