/** What the agent counts, and tells who asks. */
export interface AgentStatus {
  readonly pid: number
  readonly version: string
  /** Launchers of another build pass it by. */
  readonly build: string
  /** ISO 8601. */
  readonly started: string
  readonly uptimeSeconds: number
  /** Requests that were answered, by CNI command. */
  readonly requests: Readonly<Record<string, number>>
  /** How many of them with an error. */
  readonly failed: number
  /** Requests that were left to one shot. */
  readonly declined: number
  readonly residentBytes: number
  readonly stateFolder: string
}

const COMMANDS = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION']

export class Tally {
  readonly #requests = new Map<string, number>(COMMANDS.map((command) => [command, 0]))
  #failed = 0
  declined = 0

  /** @param command As the caller sent it. */
  count(command: string, succeeded: boolean): void {
    const known = this.#requests.get(command)
    if (known !== undefined) this.#requests.set(command, known + 1)
    if (!succeeded) this.#failed++
  }

  get totals(): Pick<AgentStatus, 'requests' | 'failed' | 'declined'> {
    return { requests: Object.fromEntries(this.#requests), failed: this.#failed, declined: this.declined }
  }
}
