/**
 * Where tsnet keeps what it knows. Everything in it describes kernel objects and dies with them at a reboot:
 *
 *     <state>/                                       0700, /run/tsnet unless TSNET_STATE_DIR says otherwise
 *       lock                                         flock: held while a network comes into being
 *       networks/<network>/subnet                    the subnet file (docs/subnet-file.md)
 *       networks/<network>/lock                      flock: held for the length of an ADD, DEL or GC of the network
 *       networks/<network>/network.json              bridge and subnets of the network
 *       attachments/<network>/<id>:<ifname>.json     what an ADD did
 *       ports/                                       who owns which host port
 *       chained/<type>/<network>/<id>:<ifname>.json  what a plugin of a chain did (src/chained/attachment-book.ts)
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { CNI_CODE, isErrno, TsnetError } from '../error.ts'
import { type FileLock, lockFile } from '../sys/lock.ts'
import { makeFolder, readOwnFile, replaceFile, requireOwnFolder } from '../sys/state-file.ts'

export { removeFile } from '../sys/state-file.ts'

import type { Owner } from './owner.ts'

export const DEFAULT_STATE_FOLDER = '/run/tsnet'

export interface StateFolder {
  readonly root: string
  /** Of a process that has more to do than this one call. */
  readonly patience?: Patience
}

/** When to give a call up while nothing has been changed yet. */
export interface Patience {
  /** How long to wait for a network's lock instead, milliseconds. */
  readonly lockTimeoutMs: number
  /** Asked when the lock is held: whether anybody still waits for the answer. */
  readonly isWanted: () => boolean
}

export function networkFolder(state: StateFolder, network: string): string {
  return join(state.root, 'networks', network)
}

/** @returns The names of all networks that have a folder, with attachments or without. */
export function listNetworks(state: StateFolder): readonly string[] {
  return namesIn(join(state.root, 'networks'))
}

export function attachmentsFolder(state: StateFolder, network: string): string {
  return join(state.root, 'attachments', network)
}

/** @param type The plugin type whose attachments they are. */
export function chainedFolder(state: StateFolder, type: string, network: string): string {
  return join(state.root, 'chained', type, network)
}

export function recordPath(state: StateFolder, owner: Owner): string {
  return join(attachmentsFolder(state, owner.network), `${owner.containerID}:${owner.ifname}.json`)
}

export function portsFolder(state: StateFolder): string {
  return join(state.root, 'ports')
}

/**
 * Everything about one network happens under its lock.
 * @throws TsnetError with CNI code 11 when the call's time limit is over; TSNET_ABANDONED when nobody waits for the answer any more; TSNET_STATE, CNI code 5,
 * when the state folder is another user's, open to others or cannot be written to
 */
export function lockNetwork(state: StateFolder, network: string): FileLock {
  const { lockTimeoutMs, isWanted } = state.patience ?? {}
  const folder = networkFolder(state, network)
  makeFolder(folder)
  requireOwnFolder(state.root)
  const lock = lockFile(join(folder, 'lock'), { ...(lockTimeoutMs !== undefined && { timeoutMs: lockTimeoutMs }) })
  if (isWanted?.() ?? true) return lock
  lock[Symbol.dispose]()
  throw new TsnetError('TSNET_ABANDONED', `Cannot go on in network "${network}": nobody waits for the answer any more`, {
    cniCode: CNI_CODE.tryAgain,
  })
}

/** Held, always after the network's own lock, while a network chooses bridge and subnet. */
export function lockHost(state: StateFolder): FileLock {
  makeFolder(state.root)
  return lockFile(join(state.root, 'lock'))
}

/** Writes a file as a whole or not at all; where the folder is on a disk, it is there afterwards whatever happens. */
export const writeWhole: (path: string, text: string) => void = replaceFile

/** @returns The file's text, or undefined when there is none. */
export const readWhole: (path: string) => string | undefined = readOwnFile

/** @returns The names in a folder; none when there is no such folder. */
export function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}
