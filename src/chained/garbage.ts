/** GC of what the book of a plugin type holds. */
import type { ValidAttachment } from '../cni/valid-attachments.ts'
import { Attempts } from '../plan/detach.ts'
import type { Owner } from '../plan/owner.ts'
import type { AttachmentBook } from './attachment-book.ts'

export interface Collection {
  readonly network: string
  /** The attachments that stay. */
  readonly valid: readonly ValidAttachment[]
  /** Takes one attachment back, its entry in the book included. */
  readonly takeBack: (owner: Owner) => void
  /** What else there is to collect, behind that. */
  readonly others?: readonly (() => void)[]
}

/** Takes back what no runtime knows any more. @throws ErrorList with everything that could not be, after all else was */
export function collectStale(book: AttachmentBook<unknown>, { network, valid, takeBack, others = [] }: Collection): void {
  const errors = new Attempts()
  for (const owner of book.staleOwners(network, valid)) errors.try(() => takeBack(owner))
  for (const collect of others) errors.try(collect)
  errors.finish(`Cannot collect the garbage of network "${network}"`)
}
