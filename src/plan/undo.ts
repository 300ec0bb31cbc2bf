/** What has been done and how to take it back: success is `commit()` on the last line, anything else reverts. */
import { describe } from '../error.ts'

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
    for (let entry = this.#entries.pop(); entry !== undefined; entry = this.#entries.pop()) {
      try {
        entry.undo()
      } catch (error) {
        this.#onFailure(`Cannot undo: ${entry.what}: ${describe(error)}`)
      }
    }
  }
}
