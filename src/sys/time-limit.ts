/** How long one call may take: every wait below it ends with it, and it is looked at between steps. */
import { CNI_CODE, TsnetError } from '../error.ts'
import { now } from './time.ts'

interface TimeLimit {
  readonly milliseconds: number
  /** By now(). */
  readonly end: number
}

/** Of what this thread is doing, which is one thing at a time, from its begin to its end. */
let current: TimeLimit | undefined

/** @param milliseconds For `act` alone: a limit that was there before is forgotten meanwhile. */
export function withTimeLimit<T>(milliseconds: number, act: () => T): T {
  const outer = current
  current = { milliseconds, end: now() + milliseconds }
  try {
    return act()
  } finally {
    current = outer
  }
}

/** @param otherwise What holds where no limit is set. @returns Milliseconds that a wait may take, 0 when the time is over */
export function remainingMs(otherwise: number): number {
  return current === undefined ? otherwise : Math.max(0, current.end - now())
}

/** @returns true @throws TsnetError TSNET_TIMEOUT (CNI code 11) when the time is over */
export function checkTimeLimit(): true {
  if (current !== undefined && remainingMs(0) === 0) throw timeOver(`it takes longer than ${current.milliseconds} ms`)
  return true
}

/** @param reason What took too long. */
export function timeOver(reason: string): TsnetError {
  return new TsnetError('TSNET_TIMEOUT', `Cannot go on: ${reason}`, {
    cniCode: CNI_CODE.tryAgain,
    hint: 'Run it again; TSNET_TIMEOUT, in seconds, allows more',
  })
}
