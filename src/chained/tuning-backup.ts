/**
 * What an interface was before it was tuned: `<dataDir>/<containerID>_<ifname>.json`, in the format of the reference plugin, so that either
 * sets back what the other has changed.
 */
import { join } from 'node:path'
import type { LinkSettings } from '../bridge/link-settings.ts'
import { isObject, parseJsonOrUndefined } from '../cni/json.ts'
import type { Owner } from '../plan/owner.ts'
import { readWhole, removeFile, writeWhole } from '../plan/state-folder.ts'

export function backupPath(folder: string, { containerID, ifname }: Pick<Owner, 'containerID' | 'ifname'>): string {
  return join(folder, `${containerID}_${ifname}.json`)
}

/** Of two plugins that tune the same interface the first knows what it was. */
export function writeBackup(path: string, before: LinkSettings): void {
  writeWhole(path, JSON.stringify({ ...before, ...readBackup(path) }, undefined, 1))
}

/** @returns undefined when there is none, or none that can be read. */
export function readBackup(path: string): LinkSettings | undefined {
  const value = parseJsonOrUndefined(readWhole(path))
  if (!isObject(value)) return undefined
  const { mac, mtu, promisc, allmulti, txQLen } = value
  return {
    ...(typeof mac === 'string' && /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac) && { mac: mac.toLowerCase() }),
    ...(typeof mtu === 'number' && { mtu }),
    ...(typeof promisc === 'boolean' && { promisc }),
    ...(typeof allmulti === 'boolean' && { allmulti }),
    ...(typeof txQLen === 'number' && { txQLen }),
  }
}

export function removeBackup(path: string): void {
  removeFile(path)
}
