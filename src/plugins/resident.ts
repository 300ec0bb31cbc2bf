/** What the resident process does not do. */
import { TsnetError } from '../error.ts'
import type { PlanContext } from '../plan/attach.ts'

/** Leaves a request that may wait for strangers to a process of its own, before anything is changed. @throws TsnetError TSNET_RESIDENT */
export function refuseResident({ resident }: PlanContext, what: string): void {
  if (resident === true) throw new TsnetError('TSNET_RESIDENT', `Cannot serve a request that waits for ${what}`)
}
