import type { Repair } from './findings.ts'
import { listLiveNetworks } from './record.ts'
import { type RepairContext, repairNetwork } from './repair.ts'

export interface RepairAllResult {
  readonly repairs: readonly Repair[]
  /** Of networks that could not be looked at. */
  readonly errors: readonly unknown[]
}

/** Repairs one network after the other, and goes on after errors. @param wanted This network only. */
export function repairAll(context: RepairContext, wanted?: string): RepairAllResult {
  const networks = listLiveNetworks(context.state).filter((network) => (wanted ?? network) === network)
  const errors: unknown[] = []
  const repairs = [...networks].sort().flatMap((network) => {
    try {
      return repairNetwork(network, context)
    } catch (error) {
      errors.push(error)
      return []
    }
  })
  return { repairs, errors }
}
