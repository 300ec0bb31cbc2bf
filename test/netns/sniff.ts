/** tcpdump on an interface: what really went over it. */
import type { ChildProcess } from 'node:child_process'
import { eventually, type Place } from './machine.ts'

export class Sniffer {
  readonly #child: ChildProcess
  #text = ''
  #problems = ''

  private constructor(child: ChildProcess) {
    this.#child = child
    child.stdout?.on('data', (data) => {
      this.#text += data
    })
    child.stderr?.on('data', (data) => {
      this.#problems += data
    })
  }

  /** Returns when it listens. */
  static async start(place: Place, link: string, filter: string): Promise<Sniffer> {
    const sniffer = new Sniffer(place.start(['tcpdump', '-Z', 'root', '-n', '-e', '-t', '-l', '--immediate-mode', '-i', link, filter]))
    await eventually(`tcpdump listens on ${link}: ${sniffer.#problems}`, () => /listening on/.test(sniffer.#problems))
    return sniffer
  }

  /** All that was seen up to now. */
  get text(): string {
    return this.#text
  }

  /** Waits until a line that matches was seen. @returns That line */
  async line(pattern: RegExp): Promise<string> {
    const find = () => this.#text.split('\n').find((line) => pattern.test(line))
    await eventually(`a frame like ${pattern} among:\n${this.#text}`, () => find() !== undefined)
    return find() ?? ''
  }

  /** @returns Whether a line that matches was seen until now. */
  saw(pattern: RegExp): boolean {
    return this.#text.split('\n').some((line) => pattern.test(line))
  }

  stop(): void {
    this.#child.kill('SIGKILL')
  }
}
