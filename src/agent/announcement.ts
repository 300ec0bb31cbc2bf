/**
 * A new interface is announced behind the answer: the kernel gives the frame to every port of the bridge before it returns, which takes
 * more than a millisecond with 500, and nobody waits for it.
 */
import { closeSync } from 'node:fs'
import type { NetlinkSocket, Request } from '../netlink/socket.ts'
import { libc } from '../sys/libc.ts'
import { duplicate } from '../sys/libc-agent.ts'

/** Of one call. What has not been sent when it is disposed of is never sent. */
export class Announcement implements Disposable {
  #pending: { readonly fd: number; readonly message: Uint8Array } | undefined

  /** An ADD that makes room first tries again, with another MAC address: only its last announcement counts. */
  readonly prepare = (container: NetlinkSocket, request: Request): void => {
    this[Symbol.dispose]()
    this.#pending = { fd: duplicate(container.fd), message: container.prepare(request) }
  }

  send(): void {
    if (this.#pending === undefined) return
    const { fd, message } = this.#pending
    libc.send(fd, message, message.length, 0)
  }

  [Symbol.dispose](): void {
    if (this.#pending !== undefined) closeSync(this.#pending.fd)
    this.#pending = undefined
  }
}
