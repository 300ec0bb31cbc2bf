/** What an attachment may send: from its record and those of the container's other interfaces. */
import { linkLocalAddress, macToBytes } from '../bridge/mac.ts'
import type { GuardedPort, SourceGuard } from '../nat/source-guard/element.ts'
import { parsePrefix } from '../wire/ip-address.ts'
import { ownerMarkText } from './owner.ts'
import { type AttachmentRecord, listLiveNetworks, listOwners, readRecord } from './record.ts'
import type { StateFolder } from './state-folder.ts'

/** @param siblings Records of the container's other interfaces; those that are not guarded count for nothing. */
export function guardOf(record: AttachmentRecord, siblings: readonly AttachmentRecord[]): SourceGuard {
  return {
    port: portOf(record),
    mac: macToBytes(record.mac),
    siblings: siblings.filter(({ guarded }) => guarded === true).map(portOf),
  }
}

/** @returns The records of the other interfaces of the same container, over all networks; none for an attachment that is not guarded. */
export function siblingsOf(state: StateFolder, record: AttachmentRecord): readonly AttachmentRecord[] {
  if (record.guarded !== true) return []
  const others = listLiveNetworks(state)
    .flatMap((network) => listOwners(state, network))
    .filter(({ containerID }) => containerID === record.containerID)
    .filter(({ network, ifname }) => network !== record.network || ifname !== record.ifname)
  return others.flatMap((owner) => readRecord(state, owner) ?? []).filter(({ netns }) => netns.inode === record.netns.inode)
}

/** With IPv6, an interface also has the link-local address that follows from its MAC address. */
function portOf(record: AttachmentRecord): GuardedPort {
  const addresses = record.addresses.flatMap(({ address }) => parsePrefix(address)?.address ?? [])
  const linkLocal = addresses.some(({ family }) => family === 6) ? [linkLocalAddress(macToBytes(record.mac))] : []
  return { owner: ownerMarkText(record), name: record.hostVeth, addresses: [...addresses, ...linkLocal] }
}
