/** What has been done and how to take it back: success is `commit()` on the last line, anything else reverts. */
import { describe } from '../error.ts'
import { withTimeLimit } from '../sys/time-limit.ts'

/** Taking back has a time of its own: that of the call may be what has run out. */
const TIME_LIMIT_MS = 30_000

export class UndoStack implements Disposable {
  readonly #entries: { readonly what: string; readonly undo: () => void }[] = []
  readonly #onFailure: (problem: string) => void

  /** @param onFailure Hears of a step that could not be taken back; the others are taken back all the same. */
  constructor(onFailure: (problem: string) => void) {
    this.#onFailure = onFailure
  }

  /** @param what The step, as it continues "Cannot undo: ". */
  push(what: string, undo: () => void): void {
    this.#entries.push({ what, undo })
  }

  commit(): void {
    this.#entries.length = 0
  }

  [Symbol.dispose](): void {
    if (this.#entries.length > 0) withTimeLimit(TIME_LIMIT_MS, () => this.#revert())
  }

  #revert(): void {
    for (let entry = this.#entries.pop(); entry !== undefined; entry = this.#entries.pop()) {
      try {
        entry.undo()
      } catch (error) {
        this.#onFailure(`Cannot undo: ${entry.what}: ${describe(error)}`)
      }
    }
  }
}
