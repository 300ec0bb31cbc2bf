/** One connection of the agent: a frame that arrives in pieces, with the descriptors that come along. */
import { closeSync } from 'node:fs'
import { TsnetError } from '../error.ts'
import { isHungUp } from '../sys/poll.ts'
import { receive, sendAll } from '../sys/unix-socket.ts'
import { decodeHeader, HEADER_SIZE, type Header, LARGEST_REQUEST } from './frame.ts'

export interface Frame extends Header {
  readonly payload: Buffer
}

export class Connection implements Disposable {
  readonly fd: number
  /** When it was accepted, milliseconds. */
  readonly since: number
  #chunks: Buffer[] = []
  #length = 0
  #header: Header | undefined
  #netns: number | undefined
  #closed = false

  constructor(fd: number, since: number) {
    this.fd = fd
    this.since = since
  }

  /** Bytes that have arrived. */
  get size(): number {
    return this.#length
  }

  /**
   * Takes what has arrived.
   * @returns The frame when it is complete
   * @throws TsnetError TSNET_PROTOCOL, KernelError; then the connection is of no more use
   */
  read(): Frame | undefined {
    for (;;) {
      const wanted = (this.#header === undefined ? HEADER_SIZE : HEADER_SIZE + this.#header.size) - this.#length
      const received = wanted === 0 ? undefined : receive(this.fd, wanted)
      if (received === undefined && wanted > 0) return undefined
      if (received !== undefined) this.#take(received.data, received.fds)
      if (this.#header === undefined && this.#length === HEADER_SIZE) this.#header = this.#decodeHeader()
      if (this.#header !== undefined && this.#length === HEADER_SIZE + this.#header.size) {
        return { ...this.#header, payload: Buffer.concat(this.#chunks).subarray(HEADER_SIZE) }
      }
    }
  }

  send(frame: Uint8Array): boolean {
    return sendAll(this.fd, frame)
  }

  /** Whether the other end has gone. */
  isHungUp(): boolean {
    return this.#closed || isHungUp(this.fd)
  }

  /** The descriptor that came along. */
  get netns(): number | undefined {
    return this.#netns
  }

  /** To be called before the answer is sent: whoever gets it may want the namespace to vanish. */
  closeNetns(): void {
    if (this.#netns !== undefined) closeSync(this.#netns)
    this.#netns = undefined
  }

  [Symbol.dispose](): void {
    if (this.#closed) return
    this.#closed = true
    this.closeNetns()
    closeSync(this.fd)
  }

  #take(data: Uint8Array, fds: readonly number[]): void {
    const [first, ...more] = this.#netns === undefined ? fds : [undefined, ...fds]
    if (first !== undefined) this.#netns = first
    for (const fd of more) if (fd !== undefined) closeSync(fd)
    if (more.length > 0) throw new TsnetError('TSNET_PROTOCOL', "Cannot understand the other end of the agent's socket: it sends several descriptors")
    if (data.length === 0) throw new TsnetError('TSNET_PROTOCOL', "Cannot understand the other end of the agent's socket: it has closed it")
    this.#chunks.push(Buffer.from(data))
    this.#length += data.length
  }

  #decodeHeader(): Header {
    const header = decodeHeader(Buffer.concat(this.#chunks))
    if (header.size <= LARGEST_REQUEST) return header
    throw new TsnetError('TSNET_PROTOCOL', `Cannot understand the other end of the agent's socket: it announces ${header.size} bytes`)
  }
}
