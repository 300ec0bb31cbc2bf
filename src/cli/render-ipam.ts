import type { BookCheck, BookFault } from '../plan/book-check.ts'
import { type Colour, paint, type Style } from './style.ts'

type Verdict = 'ok' | 'repaired' | 'damaged' | 'failed'

const COLOURS: Readonly<Record<Verdict, Colour>> = { ok: 'green', repaired: 'green', damaged: 'red', failed: 'red' }

export interface BookFormat {
  readonly repair: boolean
  readonly json: boolean
}

/** @returns Lines of network, verdict and what it is about, one for each fault, or a JSON list. */
export function formatBookChecks(style: Style, checks: readonly BookCheck[], { repair, json }: BookFormat): string {
  const verdictOf = ({ repairable }: BookFault): Verdict => (!repair ? 'damaged' : repairable ? 'repaired' : 'failed')
  if (json) {
    const documents = checks.map(({ faults, ...check }) => ({
      ...check,
      ok: faults.length === 0,
      problems: faults.map(({ problem, ...fault }) => ({
        verdict: verdictOf({ problem, ...fault }),
        problem,
        ...(fault.hint && { hint: fault.hint }),
      })),
    }))
    return `${JSON.stringify(documents, undefined, 2)}\n`
  }
  const line = (network: string, verdict: Verdict, what: string) =>
    `${[network, paint(style, COLOURS[verdict], verdict), what].join(style.terminal ? '  ' : '\t')}\n`
  return checks
    .flatMap(({ network, leases, faults }) =>
      faults.length === 0
        ? [line(network, 'ok', leases === 1 ? '1 lease' : `${leases} leases`)]
        : faults.map((fault) => line(network, verdictOf(fault), fault.problem)),
    )
    .join('')
}
