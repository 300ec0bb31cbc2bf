/**
 * What spares a call from reading every file of a network's folder: who has which address, by container, and in which namespace
 * the interface is. It stands beside the folder, hidden, so that it lives as long as the reservations do:
 *
 *     <dataDir>/.tsnet/<network>/state      the time mark of the folder that the index describes
 *     <dataDir>/.tsnet/<network>/<00-ff>    the reservations of the containers whose id has this fingerprint
 *
 * A folder with another mark was changed by somebody else, and everything is read again; the files themselves are always the truth.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { isErrno } from '../../error.ts'
import { bootId } from '../../sys/boot.ts'
import type { NetnsIdentity } from '../../sys/netns-identity.ts'
import { writePlainFile } from '../../sys/plain-file.ts'
import type { Holder } from './reservation-folder.ts'

/** For whom tsnet itself has reserved an address. */
export interface Purpose {
  /** Absent where the namespace could not be told. */
  readonly netns?: NetnsIdentity
  /** The request that made it: one that is repeated, because its answer was lost, is recognised. */
  readonly request?: string
}

export interface IndexEntry extends Holder {
  readonly address: string
  /** Of the file that this is about: another one of the same name is not meant. */
  readonly stamp: string
  /** The boot in which the file was first seen: in another one no namespace is left that it could be for, whoever wrote it. */
  readonly bootId: string
  /** Absent when another program has reserved the address. */
  readonly purpose?: Purpose
}

const STATE = 'state'
const FORMAT = 1

export class HolderIndex {
  /** Whether something was found that cannot be read: what it said is missing in the answers. */
  broken = false
  readonly #path: string

  constructor(path: string) {
    this.#path = path
  }

  /** @returns The folder's mark when the index was last complete. */
  mark(): string | undefined {
    const state = parse(this.#read(STATE)) as { readonly format?: unknown; readonly mark?: unknown; readonly bootId?: unknown } | null | undefined
    // Nothing is synced: after a loss of power the mark may be on the disk, and what it stands for not.
    return state?.format === FORMAT && state.bootId === bootId() && typeof state.mark === 'string' ? state.mark : undefined
  }

  setMark(mark: string): void {
    this.#write(STATE, JSON.stringify({ format: FORMAT, bootId: bootId(), mark }))
  }

  /** @returns What a container has, in the index's opinion. */
  entriesOf(containerID: string): readonly IndexEntry[] {
    return this.#bucket(bucketOf(containerID)).filter((entry) => entry.containerID === containerID)
  }

  all(): readonly IndexEntry[] {
    return namesIn(this.#path).flatMap((name) => this.#bucket(name))
  }

  /** Changes what a container has. */
  update(containerID: string, change: (entries: readonly IndexEntry[]) => readonly IndexEntry[]): void {
    const name = bucketOf(containerID)
    const bucket = this.#bucket(name)
    const others = bucket.filter((entry) => entry.containerID !== containerID)
    const own = change(bucket.filter((entry) => entry.containerID === containerID))
    this.#writeBucket(name, [...others, ...own])
  }

  /** Takes the place of everything, also of what could not be read. */
  replace(entries: readonly IndexEntry[]): void {
    const buckets = new Map<string, IndexEntry[]>(namesIn(this.#path).map((name) => [name, []]))
    for (const entry of entries) {
      const name = bucketOf(entry.containerID)
      const bucket = buckets.get(name)
      if (bucket === undefined) buckets.set(name, [entry])
      else bucket.push(entry)
    }
    for (const [name, bucket] of buckets) this.#writeBucket(name, bucket)
    this.broken = false
  }

  #bucket(name: string): readonly IndexEntry[] {
    const text = this.#read(name)
    const entries = text === undefined ? [] : parse(text)
    if (Array.isArray(entries) && entries.every(isEntry)) return entries
    this.broken = true
    return []
  }

  #writeBucket(name: string, entries: readonly IndexEntry[]): void {
    if (entries.length === 0) rmSync(join(this.#path, name), { force: true })
    else this.#write(name, `[\n${entries.map((entry) => JSON.stringify(entry)).join(',\n')}\n]\n`)
  }

  #read(name: string): string | undefined {
    try {
      return readFileSync(join(this.#path, name), 'utf8')
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
      throw error
    }
  }

  /** As a whole or not at all. */
  #write(name: string, text: string): void {
    const draft = join(this.#path, 'draft')
    try {
      writePlainFile(draft, text)
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error
      mkdirSync(this.#path, { recursive: true, mode: 0o700 })
      writePlainFile(draft, text)
    }
    renameSync(draft, join(this.#path, name))
  }
}

/** FNV-1a with 32 bits, folded to 8. */
function bucketOf(containerID: string): string {
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(containerID)) hash = Math.imul(hash ^ byte, 0x01000193)
  return ((hash ^ (hash >>> 8) ^ (hash >>> 16) ^ (hash >>> 24)) & 0xff).toString(16).padStart(2, '0')
}

function isEntry(value: unknown): value is IndexEntry {
  const entry = value as Partial<Record<keyof IndexEntry, unknown>> | null
  return (
    typeof entry?.address === 'string' && typeof entry.containerID === 'string' && typeof entry.stamp === 'string' && typeof entry.bootId === 'string'
  )
}

function namesIn(path: string): readonly string[] {
  try {
    return readdirSync(path).filter((name) => /^[0-9a-f]{2}$/.test(name))
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}

function parse(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text)
  } catch {
    return undefined
  }
}
