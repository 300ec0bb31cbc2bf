/** What `tsnet repair --watch` did, as text for a journal or as JSON. */
import { describe } from '../error.ts'
import type { WatchEvent } from '../watch/watch.ts'
import { repairDocument } from './render-repair.ts'

/** How many things a line names; the JSON document names all. */
const MOST_NAMED = 3

/** @returns One line; nothing for an event without a repair, whose errors are told elsewhere. */
export function formatWatchEvent(event: WatchEvent, json: boolean): string {
  if (json) return `${JSON.stringify(documentOf(event))}\n`
  const made = event.repairs.flatMap(({ network, owner, made }) => {
    const whose = owner === undefined ? network : `${network}/${owner.containerID}:${owner.ifname}`
    return made.map((what) => `${whose}: ${what}`)
  })
  if (made.length === 0) return ''
  const more = made.length > MOST_NAMED ? `; and ${made.length - MOST_NAMED} more` : ''
  const what = made.slice(0, MOST_NAMED).join('; ')
  return `repaired in ${Math.round(event.milliseconds)} ms, because ${event.causes.join(' and ')}: ${what}${more}\n`
}

function documentOf({ causes, repairs, errors, milliseconds }: WatchEvent): object {
  const problems = errors.map(describe)
  return {
    causes,
    milliseconds: Math.round(milliseconds),
    repairs: repairs.map((repair) => repairDocument(repair)),
    ...(problems.length > 0 && { problems }),
  }
}
