/** The other interfaces of a container, by the records. */
import { type AttachmentRecord, listLiveNetworks, listOwners, readRecord } from './record.ts'
import type { StateFolder } from './state-folder.ts'

/** @returns The records of the other interfaces of the same container, over all networks, whether or not their ADDs are complete. */
export function siblingsOf(state: StateFolder, record: AttachmentRecord): readonly AttachmentRecord[] {
  const others = listLiveNetworks(state)
    .flatMap((network) => listOwners(state, network))
    .filter(({ containerID }) => containerID === record.containerID)
    .filter(({ network, ifname }) => network !== record.network || ifname !== record.ifname)
  return others.flatMap((owner) => readRecord(state, owner) ?? []).filter(({ netns }) => netns.inode === record.netns.inode)
}
