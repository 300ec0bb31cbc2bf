/** When to look: a while after the last event, so that one look serves for hundreds of them, and not too long after the first. */
import type { Cause } from './cause.ts'

/** Milliseconds without an event before a look. */
const QUIET_MS = 100
/** Milliseconds after the first event by which a look comes though events go on. */
const LATEST_MS = 1_000
/** In which every repair makes the next one wait longer: nobody wins against a program that takes away what is made, so once a second is enough. */
const MEMORY_MS = 10_000
/** After a failure, doubled with each that follows. */
const FIRST_RETRY_MS = 1_000

export interface Outcome {
  /** Whether anything was made. */
  readonly made: boolean
  /** Whether something could not be made, and is worth another try. */
  readonly failed: boolean
}

/** Calls `look`, one call at a time, until it is disposed of. */
export class Schedule implements Disposable {
  readonly #everyMs: number
  readonly #look: (causes: readonly Cause[]) => Outcome
  readonly #causes = new Set<Cause>()
  #first = 0
  #soon: NodeJS.Timeout | undefined
  #later: NodeJS.Timeout | undefined
  #made: readonly number[] = []
  #retryMs = FIRST_RETRY_MS
  #disposed = false

  /** @param everyMs Milliseconds after a look by which the next one comes without any event. */
  constructor(everyMs: number, look: (causes: readonly Cause[]) => Outcome) {
    this.#everyMs = everyMs
    this.#look = look
  }

  /** Something has happened that calls for a look. */
  note(cause: Cause): void {
    if (this.#disposed) return
    if (this.#causes.size === 0) this.#first = Date.now()
    this.#causes.add(cause)
    clearTimeout(this.#soon)
    const quiet = Math.min(LATEST_MS, QUIET_MS * (1 + this.#made.length))
    const latest = this.#first + LATEST_MS - Date.now()
    this.#soon = setTimeout(() => this.lookNow(), Math.max(0, Math.min(quiet, latest)))
  }

  /** Looks without waiting. @param cause Beside what has been noted. */
  lookNow(cause?: Cause): void {
    if (this.#disposed) return
    if (cause !== undefined) this.#causes.add(cause)
    clearTimeout(this.#soon)
    clearTimeout(this.#later)
    const causes = [...this.#causes]
    this.#causes.clear()
    this.#remember(this.#look(causes))
  }

  [Symbol.dispose](): void {
    this.#disposed = true
    clearTimeout(this.#soon)
    clearTimeout(this.#later)
  }

  #remember({ made, failed }: Outcome): void {
    const now = Date.now()
    this.#made = [...this.#made, ...(made ? [now] : [])].filter((time) => now - time < MEMORY_MS)
    const retry = failed && this.#retryMs < this.#everyMs
    this.#later = setTimeout(() => this.lookNow(retry ? 'the last repair failed' : 'time was up'), retry ? this.#retryMs : this.#everyMs)
    this.#retryMs = failed ? Math.min(2 * this.#retryMs, this.#everyMs) : FIRST_RETRY_MS
  }
}
