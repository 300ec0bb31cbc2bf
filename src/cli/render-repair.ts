/** What `tsnet repair` found and made, as text. */
import { describe } from '../error.ts'
import type { Repair } from '../plan/findings.ts'
import { type Colour, paint, type Style } from './style.ts'

/** `missing`: it would be repaired, but for --dry-run. */
type Verdict = 'ok' | 'repaired' | 'missing' | 'failed' | 'incomplete' | 'gone'

const COLOURS: Readonly<Record<Verdict, Colour>> = {
  ok: 'green',
  repaired: 'green',
  missing: 'yellow',
  failed: 'red',
  incomplete: 'yellow',
  gone: 'yellow',
}
const NONE = '-'

/** Why there is nothing to be repaired. */
const ADVICE: Readonly<Partial<Record<Verdict, string>>> = {
  incomplete: 'it is being attached, or that was interrupted: tsnet detach removes it',
  gone: 'its namespace does not exist any more: tsnet gc removes it',
}

export interface RepairFormat {
  readonly dryRun: boolean
  readonly json: boolean
}

/**
 * @returns Lines of id, interface, network, verdict and what was made, one for each of that, or a JSON list. A terminal is
 * spared those that lack nothing, and told when that is all.
 */
export function formatRepairs(style: Style, repairs: readonly Repair[], { dryRun, json }: RepairFormat): string {
  const verdicts = repairs.map((repair) => ({ repair, verdict: verdictOf(repair, dryRun) }))
  // What all share is worth a line only when something was wrong with it.
  const shown = verdicts.filter(({ repair, verdict }) => repair.owner !== undefined || verdict !== 'ok')
  if (json)
    return `${JSON.stringify(
      shown.map(({ repair }) => repairDocument(repair, dryRun)),
      undefined,
      2,
    )}\n`
  const notable = style.terminal ? shown.filter(({ verdict }) => verdict !== 'ok') : shown
  const lines = notable.flatMap((one) => linesOf(style, one, dryRun))
  const complete = shown.filter(({ verdict }) => verdict === 'ok').length
  const idle =
    style.terminal && lines.length === 0 ? [`Nothing to repair: ${complete === 1 ? '1 attachment is' : `${complete} attachments are`} complete`] : []
  return [...lines, ...idle].map((line) => `${line}\n`).join('')
}

/** @returns What `--json` prints of it. */
export function repairDocument(repair: Repair, dryRun = false): object {
  const { network, owner, made, errors } = repair
  const { containerID, ifname } = owner ?? {}
  const problems = errors.map(describe)
  return { network, ...(owner && { containerID, ifname }), verdict: verdictOf(repair, dryRun), made, ...(problems.length > 0 && { problems }) }
}

interface Judged {
  readonly repair: Repair
  readonly verdict: Verdict
}

function verdictOf({ status, made, errors }: Repair, dryRun: boolean): Verdict {
  if (errors.length > 0 || status === 'unreadable') return 'failed'
  if (status !== 'attached') return status
  if (made.length === 0) return 'ok'
  return dryRun ? 'missing' : 'repaired'
}

function linesOf(style: Style, { repair, verdict }: Judged, dryRun: boolean): readonly string[] {
  const { network, owner, made, errors } = repair
  const whom = [owner?.containerID ?? NONE, owner?.ifname ?? NONE, network]
  const line = (word: Verdict, what: string) => [...whom, paint(style, COLOURS[word], word), what].join(style.terminal ? '  ' : '\t')
  const lines = [...made.map((what) => line(dryRun ? 'missing' : 'repaired', what)), ...errors.map((error) => line('failed', describe(error)))]
  return lines.length > 0 ? lines : [line(verdict, ADVICE[verdict] ?? NONE)]
}
