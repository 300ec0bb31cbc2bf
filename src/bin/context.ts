import { writeSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { TsnetError } from '../error.ts'
import { iptables } from '../nat/iptables/backend.ts'
import { nftables } from '../nat/nftables/backend.ts'
import { deleteLinks } from '../netlink/rtnetlink.ts'
import type { PlanContext } from '../plan/attach.ts'
import { DEFAULT_STATE_FOLDER } from '../plan/state-folder.ts'
import { parseTimeLimit } from '../plan/time-limit.ts'
import { openNetns } from '../sys/netns.ts'

/** @returns What every command works with: the folders that the environment names, the backends, warnings to standard error. */
export function openContext(): PlanContext {
  const sysctlFolder = folderOf('SYSCTL_DIR')
  // Set by the launcher when it runs a request again that an agent has begun.
  const request = process.env['TSNET_REQUEST']
  return {
    state: { root: folderOf('STATE_DIR') ?? DEFAULT_STATE_FOLDER },
    ...(sysctlFolder !== undefined && { sysctlFolder }),
    backends: [iptables, nftables],
    backend: iptables,
    warn: (problem) => writeSync(2, `tsnet: ${problem}\n`),
    openNetns,
    deleteLinks,
    timeLimitMs: parseTimeLimit(process.env['TSNET_TIMEOUT']),
    ...(request !== undefined && { request }),
  }
}

/** @returns The folder that the environment variable `TSNET_…` names; undefined when it is not set or empty. */
function folderOf(name: string): string | undefined {
  const variable = `TSNET_${name}`
  const folder = process.env[variable] || undefined
  if (folder === undefined || isAbsolute(folder)) return folder
  throw new TsnetError('TSNET_ENVIRONMENT', `Cannot use ${variable} ${JSON.stringify(folder)}: it is no absolute path`, { cniCode: 4 })
}
