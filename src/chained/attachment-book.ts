/**
 * What the plugins of a chain remember of an attachment, each for itself: enough to take back what ADD did when neither the
 * namespace nor a prevResult is left, and to find by GC what no runtime knows any more.
 *
 *     <state>/chained/<type>/<network>/<containerID>:<ifname>.json
 */
import { join } from 'node:path'
import { parseJsonOrUndefined } from '../cni/json.ts'
import { isListed, type ValidAttachment } from '../cni/valid-attachments.ts'
import type { Owner } from '../plan/owner.ts'
import { namesIn, readWhole, removeFile, type StateFolder, writeWhole } from '../plan/state-folder.ts'
import { bootId } from '../sys/boot.ts'
import type { Netns } from '../sys/netns.ts'

const FORMAT = 1
const SUFFIX = '.json'
/** What a process that was killed has not come to rename. */
const UNFINISHED = '.new'

/** @typeParam T What the plugin type remembers. */
export interface BookEntry<T> extends Owner {
  readonly netns: Pick<Netns, 'path' | 'inode'>
  readonly bootId: string
  readonly data: T
}

/** The entries of one plugin type; the entry is written before the first change that it is about. */
export class AttachmentBook<T> {
  readonly #state: StateFolder
  readonly #type: string

  constructor(state: StateFolder, type: string) {
    this.#state = state
    this.#type = type
  }

  write(owner: Owner, netns: Pick<Netns, 'path' | 'inode'>, data: T): void {
    const { network, containerID, ifname } = owner
    const entry = { format: FORMAT, network, containerID, ifname, netns: { path: netns.path, inode: netns.inode }, bootId: bootId(), data }
    writeWhole(this.#path(owner), `${JSON.stringify(entry)}\n`)
  }

  /** @returns undefined when there is none, or none that can be read: DEL goes by names then. */
  read(owner: Owner): BookEntry<T> | undefined {
    const text = readWhole(this.#path(owner))
    return text === undefined ? undefined : parse<T>(text)
  }

  remove(owner: Owner): void {
    removeFile(`${this.#path(owner)}${UNFINISHED}`)
    removeFile(this.#path(owner))
  }

  /** For an ADD that fails: an attachment that was there before is not forgotten. @returns What brings back the present entry, or that there is none */
  restorer(owner: Owner): () => void {
    const text = readWhole(this.#path(owner))
    return () => (text === undefined ? this.remove(owner) : writeWhole(this.#path(owner), text))
  }

  /** @returns Whose entries there are in a network, readable or not. */
  owners(network: string): readonly Owner[] {
    const names = namesIn(join(this.#folder(), network)).map((name) => (name.endsWith(UNFINISHED) ? name.slice(0, -UNFINISHED.length) : name))
    return [...new Set(names)].flatMap((name) => {
      const colon = name.indexOf(':')
      if (colon < 0 || !name.endsWith(SUFFIX)) return []
      return [{ network, containerID: name.slice(0, colon), ifname: name.slice(colon + 1, -SUFFIX.length) }]
    })
  }

  /** @param valid The attachments that stay. @returns The others, whose entries are there all the same */
  staleOwners(network: string, valid: readonly ValidAttachment[]): readonly Owner[] {
    return this.owners(network).filter((owner) => !isListed(valid, owner))
  }

  /** @returns The other interfaces of the same container in the same network that have entries. */
  siblingsOf({ network, containerID, ifname }: Owner): readonly Owner[] {
    return this.owners(network).filter((other) => other.containerID === containerID && other.ifname !== ifname)
  }

  /** @returns The networks that have entries. */
  networks(): readonly string[] {
    return namesIn(this.#folder())
  }

  #folder(): string {
    return join(this.#state.root, 'chained', this.#type)
  }

  #path({ network, containerID, ifname }: Owner): string {
    return join(this.#folder(), network, `${containerID}:${ifname}${SUFFIX}`)
  }
}

function parse<T>(text: string): BookEntry<T> | undefined {
  const entry = parseJsonOrUndefined(text) as (BookEntry<T> & { readonly format?: number }) | null | undefined
  return entry?.format === FORMAT ? entry : undefined
}
