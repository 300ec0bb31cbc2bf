/** A process that speaks TCP, UDP and SCTP from inside a namespace: real sockets, asked for over a pipe. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

export type TransportProtocol = 'tcp' | 'udp' | 'sctp'

export interface Endpoint {
  readonly protocol: TransportProtocol
  readonly address: string
  readonly port: number
}

export interface Question extends Endpoint {
  readonly localAddress?: string
  readonly localPort?: number
  /** UDP: whose answer is waited for; others are passed over. */
  readonly expect?: string
  /** UDP: ends with ECONNREFUSED when the other side says that nobody listens. */
  readonly connected?: boolean
  /** For questions that nobody shall answer. */
  readonly timeoutMs?: number
}

/** What a server says: its name, and whom it hears. */
export interface Answer {
  readonly name: string
  readonly peer: string
  readonly peerPort: number
  readonly port: number
}

interface Waiting {
  readonly resolve: (answer: Answer) => void
  readonly reject: (error: Error) => void
}

export class Talker {
  readonly #child: ChildProcessWithoutNullStreams
  readonly #waiting = new Map<number, Waiting>()
  #next = 0

  /** @param entry What stands before the command so that it runs in the namespace. */
  constructor(entry: readonly string[]) {
    const [command = '', ...args] = [...entry, process.execPath, join(process.cwd(), 'test/netns/talker.mjs')]
    this.#child = spawn(command, args, { env: {} })
    this.#child.stderr.pipe(process.stderr)
    this.#child.stdin.on('error', () => {})
    this.#child.once('exit', () => this.#end())
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#receive(line))
  }

  /**
   * Returns when the port is open. @throws Error with the errno name
   * @param more `standing`: TCP connections stay open, and everything that comes is answered.
   */
  async serve(endpoint: Endpoint, name: string, more: { readonly standing?: boolean } = {}): Promise<void> {
    await this.#send('serve', { ...endpoint, name, ...more })
  }

  async close(endpoint: Endpoint): Promise<void> {
    await this.#send('close', endpoint)
  }

  /** @throws Error with the errno name, or "no answer" */
  ask(question: Question): Promise<Answer> {
    return this.#send('ask', question)
  }

  /** Asks a standing server over a connection that stays open, the same for the same question. @throws Error with the errno name, "closed" or "no answer" */
  hold(question: Question): Promise<Answer> {
    return this.#send('hold', question)
  }

  /** Closes what `hold` opened. */
  async drop(question: Question): Promise<void> {
    await this.#send('drop', question)
  }

  stop(): Promise<void> {
    if (this.#hasEnded) return Promise.resolve()
    return new Promise((resolve) => {
      this.#child.once('exit', () => resolve())
      this.#child.kill('SIGKILL')
    })
  }

  get #hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  #send(action: string, options: object): Promise<Answer> {
    if (this.#hasEnded) return Promise.reject(new Error('The talker has ended'))
    const id = this.#next++
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      this.#child.stdin.write(`${JSON.stringify({ id, action, ...options })}\n`)
    })
  }

  #receive(line: string): void {
    const { id, answer, error } = JSON.parse(line) as { id: number; answer: Answer; error?: string }
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (error === undefined) waiting?.resolve(answer)
    else waiting?.reject(new Error(error))
  }

  #end(): void {
    for (const { reject } of this.#waiting.values()) reject(new Error('The talker has ended'))
    this.#waiting.clear()
  }
}
