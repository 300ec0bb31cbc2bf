/** What GC may keep. */
import { invalidField, type JsonObject, optionalObjects, optionalString } from './json.ts'

export interface ValidAttachment {
  readonly containerID: string
  readonly ifname: string
}

/** The second is how libcni spells it beside the first, since before the specification settled. */
const KEYS = ['cni.dev/valid-attachments', 'cni.dev/attachments']

/**
 * @param raw The configuration as sent.
 * @returns The attachments that still exist. An empty list means that none does; undefined that the runtime did not say, and
 * then GC must do nothing.
 * @throws TsnetError TSNET_CONFIG, CNI code 7, for an entry without containerID or ifname, since what it meant would be removed
 * @see CNI spec 1.1.0, "GC: Clean up any stale resources"
 */
export function parseValidAttachments(raw: JsonObject): readonly ValidAttachment[] | undefined {
  for (const key of KEYS) {
    const entries = optionalObjects(raw, key)
    if (entries !== undefined)
      return entries.map((entry, i) => ({ containerID: text(entry, 'containerID', `${key}[${i}].`), ifname: text(entry, 'ifname', `${key}[${i}].`) }))
  }
  return undefined
}

/** @param valid What parseValidAttachments() returns. @returns Whether an attachment of the network that GC is about is one that stays */
export function isListed(valid: readonly ValidAttachment[], { containerID, ifname }: ValidAttachment): boolean {
  return valid.some((other) => other.containerID === containerID && other.ifname === ifname)
}

function text(entry: JsonObject, key: string, path: string): string {
  const value = optionalString(entry, key, path)
  if (!value) throw invalidField(path + key, value ?? '', 'a name')
  return value
}
