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
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { CNI_CODE, isErrno, TsnetError } from '../error.ts'
import { type FileLock, lockFile } from '../sys/lock.ts'
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
 * @throws TsnetError with CNI code 11 when the call's time limit is over; TSNET_ABANDONED when nobody waits for the answer any more
 */
export function lockNetwork(state: StateFolder, network: string): FileLock {
  const { lockTimeoutMs, isWanted } = state.patience ?? {}
  const folder = networkFolder(state, network)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const lock = lockFile(join(folder, 'lock'), { ...(lockTimeoutMs !== undefined && { timeoutMs: lockTimeoutMs }) })
  if (isWanted?.() ?? true) return lock
  lock[Symbol.dispose]()
  throw new TsnetError('TSNET_ABANDONED', `Cannot go on in network "${network}": nobody waits for the answer any more`, {
    cniCode: CNI_CODE.tryAgain,
  })
}

/** Held, always after the network's own lock, while a network chooses bridge and subnet. */
export function lockHost(state: StateFolder): FileLock {
  mkdirSync(state.root, { recursive: true, mode: 0o700 })
  return lockFile(join(state.root, 'lock'))
}

/** Writes a file as a whole or not at all. */
export function writeWhole(path: string, text: string): void {
  const write = () => {
    writeFileSync(`${path}.new`, text, { mode: 0o600 })
    return true
  }
  if (unlessAbsent(write) === undefined) {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    write()
  }
  renameSync(`${path}.new`, path)
}

/** @returns The file's text, or undefined when there is none. */
export function readWhole(path: string): string | undefined {
  return unlessAbsent(() => readFileSync(path, 'utf8'))
}

/** @returns The names in a folder; none when there is no such folder. */
export function namesIn(folder: string): readonly string[] {
  return unlessAbsent(() => readdirSync(folder)) ?? []
}

export function removeFile(path: string): void {
  rmSync(path, { force: true })
}

function unlessAbsent<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}
