/** One connection of the daemon: a line that arrives in pieces, and the line that answers it. */
import { closeSync } from 'node:fs'
import { parseJson } from '../cni/json.ts'
import { receive, sendAll } from '../sys/unix-socket.ts'
import { formatLine, type Greeting, LARGEST_LINE, parseRequest, protocolError, type Request, type Response } from './protocol.ts'

const NEWLINE = 10

export class Conversation implements Disposable {
  readonly fd: number
  /** When it was accepted, milliseconds. */
  readonly since: number
  /** Ends what was asked for, when the other end has gone. Set while an answer is awaited. */
  cancel: (() => void) | undefined
  #chunks: Buffer[] = []
  #length = 0
  #asked = false
  #closed = false

  constructor(fd: number, since: number) {
    this.fd = fd
    this.since = since
  }

  get isClosed(): boolean {
    return this.#closed
  }

  /** Whether the request is still to come. */
  get isArriving(): boolean {
    return !this.#asked
  }

  /**
   * Takes what has arrived.
   * @returns The request when it is complete
   * @throws TsnetError for what is no request, and for whatever follows one; KernelError
   */
  read(): Request | undefined {
    const received = receive(this.fd, LARGEST_LINE)
    if (received === undefined) return undefined
    for (const fd of received.fds) closeSync(fd)
    if (received.data.length === 0) throw protocolError('it has closed it')
    if (this.#asked) throw protocolError('it asks for something twice')
    this.#chunks.push(Buffer.from(received.data))
    this.#length += received.data.length
    if (this.#length > LARGEST_LINE) throw protocolError(`its request is longer than ${LARGEST_LINE} bytes`)
    if (received.data.at(-1) !== NEWLINE) return undefined
    this.#asked = true
    return parseRequest(parseJson(Buffer.concat(this.#chunks).toString('utf8'), 'a request to the DHCP daemon'))
  }

  greet(greeting: Greeting): boolean {
    return sendAll(this.fd, formatLine(greeting))
  }

  /** Says the last word. @returns Whether all of it was sent */
  answer(response: Response): boolean {
    if (this.#closed) return false
    this.cancel = undefined
    const sent = sendAll(this.fd, formatLine(response))
    this[Symbol.dispose]()
    return sent
  }

  [Symbol.dispose](): void {
    if (this.#closed) return
    this.#closed = true
    closeSync(this.fd)
  }
}
