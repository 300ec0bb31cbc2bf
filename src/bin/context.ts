import { writeSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { TsnetError } from '../error.ts'
import { iptables } from '../nat/iptables/backend.ts'
import { nftables } from '../nat/nftables/backend.ts'
import type { PlanContext } from '../plan/attach.ts'
import { DEFAULT_STATE_FOLDER } from '../plan/state-folder.ts'

/** @returns What every command works with: the state folder that the environment names, the backend, warnings to standard error. */
export function openContext(): PlanContext {
  const root = process.env['TSNET_STATE_DIR'] || DEFAULT_STATE_FOLDER
  if (!isAbsolute(root))
    throw new TsnetError('TSNET_ENVIRONMENT', `Cannot use TSNET_STATE_DIR ${JSON.stringify(root)}: it is no absolute path`, { cniCode: 4 })
  return { state: { root }, backends: [iptables, nftables], backend: iptables, warn: (problem) => writeSync(2, `tsnet: ${problem}\n`) }
}
