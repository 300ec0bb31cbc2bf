/** What a runtime gets to see of an error. */
import { CNI_CODE, describe, TsnetError } from '../error.ts'
import { present } from './json.ts'
import type { CniVersion } from './version.ts'

export interface ErrorObject {
  readonly cniVersion?: CniVersion
  readonly code: number
  readonly msg: string
  readonly details?: string
}

const MAX_TEXT_BYTES = 4096

/** Deeper causes do not count; it also ends a circle of causes. */
const MAX_CAUSES = 16

/**
 * @param cniVersion The configuration's, where it is known already.
 * @returns The document to print: one line of text without a stack, at most 4 KiB in msg and in details. The code, the details
 * and the hint are those of the outermost TsnetError among the causes that has some; any other error has code 999.
 * @see CNI spec 1.1.0, "Error"
 */
export function errorObject(error: unknown, cniVersion?: CniVersion): ErrorObject {
  const errors = tsnetErrors(error)
  const code = errors.find(({ cniCode }) => cniCode !== CNI_CODE.internal)?.cniCode ?? CNI_CODE.internal
  const parts = [errors.find(({ details }) => details)?.details, errors.find(({ hint }) => hint)?.hint]
  const details = oneLine(parts.filter((part) => part !== undefined).join('; '))
  return present({ cniVersion, code, msg: oneLine(message(error)) || 'unknown error', details: details || undefined })
}

function tsnetErrors(error: unknown): readonly TsnetError[] {
  const errors: TsnetError[] = []
  for (let at = error, i = 0; at instanceof TsnetError && i < MAX_CAUSES; at = at.cause, i++) errors.push(at)
  return errors
}

/** Here a failure would leave the runtime without any answer, so whatever was thrown, the text is found or given up. */
function message(error: unknown): string {
  try {
    if (error instanceof TsnetError) return describe(error)
    return String(error instanceof Error ? error.message : error)
  } catch {
    return error instanceof TsnetError ? error.message : ''
  }
}

function oneLine(text: string): string {
  // The message of a failed child process may end in a stack of its own.
  const [head = ''] = text.split(/\n\s*at /, 1)
  const bytes = new TextEncoder().encode(head.replace(/[\p{Cc}\u2028\u2029]+/gu, ' ').trim())
  return new TextDecoder().decode(bytes.subarray(0, MAX_TEXT_BYTES), { stream: true })
}
