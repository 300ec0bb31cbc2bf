/** Whether an attachment still is what its record says, as far as one look tells. */
import { existsSync } from 'node:fs'
import { findVeth } from '../bridge/veth.ts'
import { openRtnetlink } from '../netlink/rtnetlink.ts'
import { bootId } from '../sys/boot.ts'
import { netnsInode } from '../sys/netns.ts'
import { aliasOf } from './desired.ts'
import type { Owner } from './owner.ts'
import { type AttachmentRecord, readRecord } from './record.ts'
import { recordPath, type StateFolder } from './state-folder.ts'

/** `incomplete`: an ADD is under way, or was killed; `gone`: its namespace is; `unreadable`: its record is. */
export type Status = 'attached' | 'incomplete' | 'gone' | 'unreadable'

/** An attachment as it is now. */
export interface Inspected {
  readonly owner: Owner
  readonly status: Status
  /** Absent when it is unreadable, or was never complete. */
  readonly record?: AttachmentRecord
}

/** @param owner One that `listOwners` names: a kill while the first record was written leaves no more than its beginning. */
export function inspect(state: StateFolder, owner: Owner): Inspected {
  const record = readRecord(state, owner)
  const status = record === undefined && !existsSync(recordPath(state, owner)) ? 'incomplete' : statusOf(record)
  return { owner, ...(record && { record }), status }
}

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
