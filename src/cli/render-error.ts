/** An error as a person sees it: one line with what went wrong and what to do. */
import { describe, ErrorList, TsnetError } from '../error.ts'

const MAX_CAUSES = 16

/**
 * @param debug Whether the stack follows.
 * @returns `tsnet: <message>; <details>. Hint: <hint>` and a newline.
 */
export function formatError(error: unknown, debug = false): string {
  const errors = tsnetErrors(error)
  const details = errors.find((one) => one.details)?.details
  const hint = errors.find((one) => one.hint)?.hint ?? defaultHint(error)
  const line = [describe(error), details].filter((part) => part !== undefined && part !== '').join('; ')
  const stack = debug && error instanceof Error ? `${error.stack ?? ''}\n` : ''
  return `${oneLine(`tsnet: ${line || 'unknown error'}. Hint: ${hint}`)}\n${stack}`
}

function defaultHint(error: unknown): string {
  return error instanceof TsnetError
    ? `docs/errors.md says more about ${error.code}`
    : 'This should not happen; TSNET_DEBUG=1 shows where it comes from'
}

/** The error, what caused it, and of a list each. */
function tsnetErrors(error: unknown): readonly TsnetError[] {
  const found: TsnetError[] = []
  const queue: unknown[] = [error]
  for (let at = queue.shift(); at !== undefined && found.length < MAX_CAUSES; at = queue.shift()) {
    if (!(at instanceof TsnetError)) continue
    found.push(at)
    queue.push(...(at instanceof ErrorList ? at.errors : [at.cause]))
  }
  return found
}

/** A caller's control characters must not reach a terminal. */
function oneLine(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]+/gu, ' ').trim()
}
