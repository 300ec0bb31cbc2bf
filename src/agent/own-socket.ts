/** The socket that a resident process serves on: one that a service manager hands down, or its own, of which there is one at a time. */
import { chmodSync, closeSync, mkdirSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { TsnetError } from '../error.ts'
import { type FileLock, lockFile } from '../sys/lock.ts'
import { adoptListener, listenUnix } from '../sys/unix-socket.ts'
import { handedDown } from './service-manager.ts'

/** Beyond the queue of the server itself. The kernel refuses more at once. */
const BACKLOG = 128

export interface OwnSocketOptions {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly pid: number
  /** Path; a folder that is missing is made for root alone. */
  readonly socket: string
  /** Says that another process has it. */
  readonly onTaken: (cause: unknown) => TsnetError
}

export interface OwnSocket {
  readonly listener: number
  readonly close: () => void
}

/** @throws TsnetError what `onTaken` says; KernelError */
export function openOwnSocket({ env, pid, socket, onTaken }: OwnSocketOptions): OwnSocket {
  const inherited = handedDown(env, pid)
  if (inherited !== undefined) {
    const listener = adoptListener(inherited)
    return { listener, close: () => closeSync(listener) }
  }
  mkdirSync(dirname(socket), { recursive: true, mode: 0o700 })
  const lock = lockSocket(`${socket}.lock`, onTaken)
  try {
    // Whoever left it is gone: it would hold the lock.
    rmSync(socket, { force: true })
    const listener = listenUnix(socket, BACKLOG)
    chmodSync(socket, 0o600)
    const close = () => {
      rmSync(socket, { force: true })
      closeSync(listener)
      lock[Symbol.dispose]()
    }
    return { listener, close }
  } catch (error) {
    lock[Symbol.dispose]()
    throw error
  }
}

function lockSocket(path: string, onTaken: (cause: unknown) => TsnetError): FileLock {
  try {
    return lockFile(path, { timeoutMs: 0 })
  } catch (cause) {
    if (!(cause instanceof TsnetError) || cause.code !== 'TSNET_LOCK_TIMEOUT') throw cause
    throw onTaken(cause)
  }
}
