/** The calling side of unix sockets, blocking and with limits of time. */
import { closeSync } from 'node:fs'
import { TsnetError } from '../error.ts'
import { EAGAIN, EINTR } from './errno.ts'
import { checked, errno, kernelError, libc } from './libc.ts'
import { poll } from './poll.ts'
import { now } from './time.ts'
import { peerUserID, sendAll, unixAddress } from './unix-socket.ts'

// include/linux/socket.h
const AF_UNIX = 1
const SOCK_STREAM = 1
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_SNDTIMEO = 21
/** For a listener whose queue is full, and one that takes nothing. */
const SEND_TIMEOUT_SECONDS = 5
const MSG_DONTWAIT = 0x40
const CHUNK = 65536
const NEWLINE = 10

/** A conversation in lines. Owns its descriptor. */
export class LineClient implements Disposable {
  readonly #fd: number
  readonly #path: string
  #rest = Buffer.alloc(0)

  /** @param path Of a unix socket. @throws KernelError when nobody listens there; TsnetError when the path is too long */
  constructor(path: string) {
    this.#path = path
    this.#fd = connectUnix(path)
  }

  /** The user at the other end; undefined when the kernel does not say. */
  get peerUserID(): number | undefined {
    return peerUserID(this.#fd)
  }

  /** @throws TsnetError TSNET_PROTOCOL when the other end has gone */
  send(line: Uint8Array): void {
    if (!sendAll(this.#fd, line)) throw this.#error('it takes no request')
  }

  /**
   * @param timeoutMs How long to wait, milliseconds.
   * @returns The next line, without its end
   * @throws TsnetError TSNET_PROTOCOL when there is none in time, or it is longer than `largest` bytes; KernelError
   */
  receive(timeoutMs: number, largest: number): string {
    const deadline = now() + timeoutMs
    const chunk = Buffer.alloc(CHUNK)
    for (;;) {
      const end = this.#rest.indexOf(NEWLINE)
      if (end >= 0) return this.#take(end)
      if (this.#rest.length > largest) throw this.#error(`it says more than ${largest} bytes`)
      if (poll([this.#fd], undefined, Math.max(0, deadline - now())).length === 0) {
        if (now() >= deadline) throw this.#error(`it has not answered for ${timeoutMs} ms`)
        continue
      }
      const count = Number(libc.recv(this.#fd, chunk, chunk.length, MSG_DONTWAIT))
      if (count === 0) throw this.#error('it has closed the connection')
      if (count > 0) this.#rest = Buffer.concat([this.#rest, chunk.subarray(0, count)])
      else if (errno() !== EAGAIN && errno() !== EINTR) throw kernelError(`receive from "${this.#path}"`, errno())
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }

  #take(end: number): string {
    const line = this.#rest.toString('utf8', 0, end)
    this.#rest = this.#rest.subarray(end + 1)
    return line
  }

  #error(why: string): TsnetError {
    return new TsnetError('TSNET_PROTOCOL', `Cannot talk to the other end of ${JSON.stringify(this.#path)}: ${why}`)
  }
}

/** @returns Whether somebody listens at a path. */
export function canConnect(path: string): boolean {
  try {
    closeSync(connectUnix(path))
    return true
  } catch (error) {
    if (error instanceof TsnetError) return false
    throw error
  }
}

function connectUnix(path: string): number {
  const address = unixAddress(path)
  const fd = checked(libc.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), 'open a unix socket')
  try {
    const timeout = new Uint8Array(new BigInt64Array([BigInt(SEND_TIMEOUT_SECONDS), 0n]).buffer)
    libc.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, timeout, timeout.length)
    checked(libc.connect(fd, address, address.length), `connect to "${path}"`)
    return fd
  } catch (error) {
    closeSync(fd)
    throw error
  }
}
