/** What an attachment may send: from its record and those of the container's other interfaces. */
import { linkLocalAddress, macToBytes } from '../bridge/mac.ts'
import type { GuardedPort, SourceGuard } from '../nat/source-guard/element.ts'
import { parsePrefix } from '../wire/ip-address.ts'
import { ownerMarkText } from './owner.ts'
import type { AttachmentRecord } from './record.ts'

/** @param siblings Records of the container's other interfaces; those that are not guarded count for nothing. */
export function guardOf(record: AttachmentRecord, siblings: readonly AttachmentRecord[]): SourceGuard {
  return {
    port: portOf(record),
    mac: macToBytes(record.mac),
    siblings: siblings.filter(({ guarded }) => guarded === true).map(portOf),
  }
}

/** With IPv6, an interface also has the link-local address that follows from its MAC address. */
function portOf(record: AttachmentRecord): GuardedPort {
  const addresses = record.addresses.flatMap(({ address }) => parsePrefix(address)?.address ?? [])
  const linkLocal = addresses.some(({ family }) => family === 6) ? [linkLocalAddress(macToBytes(record.mac))] : []
  return { owner: ownerMarkText(record), name: record.hostVeth, addresses: [...addresses, ...linkLocal] }
}
