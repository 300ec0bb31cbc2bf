/** The part of a repair that is about kernel parameters of all attachments together: one that nobody needs, and the file that keeps them. */
import { ensureSysctl, readSysctl } from '../sys/sysctl.ts'
import { answersOnLoopback, type HostSysctl, loopbackSwitch } from './host-switches.ts'
import type { NetworkRecord } from './network.ts'
import { heldPorts } from './ports.ts'
import type { AttachmentRecord } from './record.ts'
import { findSysctlFileLack, rewriteSysctlFile, type SysctlFileContext } from './sysctl-file.ts'

export interface SwitchRepair extends SysctlFileContext {
  readonly dryRun: boolean
  /** Hears of what was done, or would be. */
  readonly onMade: (what: string) => void
}

/** @param records Of all attachments of the network; undefined for one that cannot be read, which may publish any port. */
export function repairLoopback(
  network: NetworkRecord,
  records: readonly (AttachmentRecord | undefined)[],
  { dryRun, onMade, ...context }: SwitchRepair,
): void {
  const { key } = loopbackSwitch(network.bridge)
  const needed = records.some((record) => record === undefined || answersOnLoopback(heldPorts(record)))
  if (needed || network.loopbackRouted === true || readSysctl(key) !== '1') return
  if (!dryRun) {
    ensureSysctl(key, '0')
    rewriteSysctlFile(context)
  }
  onMade(`${key} = 0`)
}

/** @param wanted What the attachments of a network need, which the kernel has by now. */
export function repairSysctlFile(wanted: readonly HostSysctl[], { dryRun, onMade, ...context }: SwitchRepair): void {
  const path = findSysctlFileLack(wanted, context)
  if (path === undefined) return
  if (!dryRun) rewriteSysctlFile(context)
  onMade(`kernel parameters in "${path}"`)
}
