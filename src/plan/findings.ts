/** What a repair finds, makes and cannot make. */
import { describe } from '../error.ts'
import type { Owner } from './owner.ts'
import type { Status } from './status.ts'

/** What was found of an attachment, or of what the attachments of a network share. */
export interface Repair {
  readonly network: string
  /** Absent for what they share. */
  readonly owner?: Owner
  /** Only what is `attached` can be repaired. */
  readonly status: Status
  /** What was made, or would be. */
  readonly made: readonly string[]
  readonly errors: readonly unknown[]
}

/** Gathers what was made and what failed, each once. */
export class Findings implements Repair {
  readonly network: string
  readonly owner?: Owner
  readonly status: Status
  readonly #made = new Set<string>()
  readonly #errors = new Map<string, unknown>()

  constructor({ network, owner, status }: Pick<Repair, 'network' | 'owner' | 'status'>) {
    this.network = network
    this.status = status
    if (owner !== undefined) this.owner = owner
  }

  get made(): readonly string[] {
    return [...this.#made]
  }

  get errors(): readonly unknown[] {
    return [...this.#errors.values()]
  }

  add(what: string): void {
    this.#made.add(what)
  }

  fail(error: unknown): void {
    this.#errors.set(describe(error), error)
  }

  /** @returns Whether it succeeded. */
  try(act: () => void): boolean {
    try {
      act()
      return true
    } catch (error) {
      this.fail(error)
      return false
    }
  }
}
