/** Whether an attachment still is what its record says, as far as one look tells. */
import { findVeth } from '../bridge/veth.ts'
import { openRtnetlink } from '../netlink/rtnetlink.ts'
import { bootId } from '../sys/boot.ts'
import { netnsInode } from '../sys/netns.ts'
import { aliasOf } from './desired.ts'
import type { AttachmentRecord } from './record.ts'

/** `incomplete`: an ADD is under way, or was killed; `gone`: its namespace is; `unreadable`: its record is. */
export type Status = 'attached' | 'incomplete' | 'gone' | 'unreadable'

/** Inodes of namespaces are used again: only where the path or the host's end agrees is it still the same one. @param record Undefined when it cannot be read. */
export function statusOf(record: AttachmentRecord | undefined): Status {
  if (record === undefined) return 'unreadable'
  if (record.bootId !== bootId()) return 'gone'
  if (netnsInode(record.netns.path) !== record.netns.inode && !hasLink(record)) return 'gone'
  return record.state === 'adding' ? 'incomplete' : 'attached'
}

/** The host's end of a veth pair goes with the namespace that the other end is in. */
function hasLink(record: AttachmentRecord): boolean {
  using rt = openRtnetlink()
  return findVeth(rt, record.hostVeth, aliasOf(record)) !== undefined
}
