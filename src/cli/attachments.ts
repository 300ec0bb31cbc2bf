/** Finds attachments by what a person calls them: namespace, container id, or the path of a namespace that is gone. */
import { quote } from '../cni/json.ts'
import { TsnetError } from '../error.ts'
import type { Owner } from '../plan/owner.ts'
import { listLiveNetworks, listOwners } from '../plan/record.ts'
import type { StateFolder } from '../plan/state-folder.ts'
import { type Inspected, inspect } from '../plan/status.ts'
import { findNamespace, type Namespace, parseNamespace } from './namespace.ts'

export type Attachment = Inspected

/** What narrows a search. */
export interface Narrowing {
  readonly network?: string | undefined
  readonly ifname?: string | undefined
  readonly id?: string | undefined
}

/** The least of a container id that a person may shorten it to. */
const SHORT_ID = /^[0-9a-f]{6,}$/

/** @returns All attachments of the host, by network, id and interface. */
export function listAttachments(state: StateFolder): readonly Attachment[] {
  const owners = listLiveNetworks(state).flatMap((network) => listOwners(state, network))
  return owners.sort(compare).map((owner) => inspect(state, owner))
}

/**
 * The text is tried as a namespace that exists, then as a container id, then as the beginning of one, then as the path that a namespace
 * had while it existed: the first of these that has an attachment says what is meant.
 * @param cwd What a relative path starts from.
 * @throws TsnetError TSNET_USAGE for a text that can mean nothing, or two things; TSNET_AMBIGUOUS for the beginning of several ids
 */
export function findAttachments(all: readonly Attachment[], text: string, cwd: string): readonly Attachment[] {
  const namespace = findNamespace(text, cwd)
  const paths = parseNamespace(text, cwd).flatMap((wish) => wish.paths)
  const ways: readonly (() => readonly Attachment[])[] = [
    () => (namespace === undefined ? [] : all.filter((attachment) => isIn(attachment, namespace))),
    () => all.filter(({ owner }) => owner.containerID === text),
    () => (SHORT_ID.test(text) ? byShortID(all, text) : []),
    () => all.filter(({ record, status }) => status === 'gone' && record !== undefined && paths.includes(record.netns.path)),
  ]
  for (const find of ways) {
    const found = find()
    if (found.length > 0) return found
  }
  return []
}

/** @returns Whether the attachment's interface is in this namespace, by whatever path. */
export function isIn({ record, status }: Attachment, namespace: Pick<Namespace, 'inode'>): boolean {
  return status !== 'gone' && record?.netns.inode === namespace.inode
}

/** @returns Those that the options leave over. */
export function narrow(attachments: readonly Attachment[], { network, ifname, id }: Narrowing): readonly Attachment[] {
  return attachments.filter(
    ({ owner }) =>
      (network ?? owner.network) === owner.network && (ifname ?? owner.ifname) === owner.ifname && (id ?? owner.containerID) === owner.containerID,
  )
}

/** @returns The refusal of a text that no attachment is called by. @param what The command, as it continues "Cannot". */
export function nothingAttached(what: string, text: string, all: readonly Attachment[]): TsnetError {
  const hint = all.length === 0 ? `Nothing is attached on this host; "tsnet attach" does that` : 'tsnet ls shows what is attached'
  return new TsnetError('TSNET_NOT_ATTACHED', `Cannot ${what} ${quote(text)}: nothing is attached to it`, { cniCode: 3, hint })
}

function byShortID(all: readonly Attachment[], text: string): readonly Attachment[] {
  const found = all.filter(({ owner }) => owner.containerID.startsWith(text))
  const ids = [...new Set(found.map(({ owner }) => owner.containerID))]
  if (ids.length < 2) return found
  throw new TsnetError('TSNET_AMBIGUOUS', `Cannot tell which container ${quote(text)} is: ${ids.length} ids begin so`, {
    hint: 'Give more of the id',
  })
}

function compare(a: Owner, b: Owner): number {
  const [left, right] = [a, b].map(({ network, containerID, ifname }) => `${network}/${containerID}:${ifname}`) as [string, string]
  return left < right ? -1 : left > right ? 1 : 0
}
