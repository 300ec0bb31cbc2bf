import type { JsonObject } from '../cni/json.ts'
import { paint, type Style } from './style.ts'

/** What a command of `tsnet cni` has done, but for `add`, which prints a CNI result. */
export interface Ran extends JsonObject {
  readonly action: string
  readonly network: string
  readonly containerID?: string
  readonly ifname?: string
  /** False: the list forbids the question, or its version does not know it. */
  readonly asked?: boolean
  /** By gc. */
  readonly deleted?: readonly { readonly containerID: string; readonly ifname: string }[]
}

/** Why the plugins of a definition cannot be asked, for who wonders. */
const NOT_ASKED: Readonly<Record<string, string>> = {
  check: 'the definition says disableCheck',
  gc: 'the definition says disableGC',
  status: 'the definition says a cniVersion before 1.1.0, which has no STATUS',
}

/** @returns A line, of gc one for each attachment; or an object. */
export function formatRan(style: Style, ran: Ran, json: boolean): string {
  if (json) return `${JSON.stringify(ran, undefined, 2)}\n`
  const { action, network, containerID, ifname, asked = true, deleted = [] } = ran
  const line = (words: readonly (string | undefined)[]) => `${words.filter((word) => word !== undefined).join(style.terminal ? '  ' : '\t')}\n`
  const removed = paint(style, 'bold', 'deleted')
  if (action === 'gc' && (asked || deleted.length > 0)) {
    if (deleted.length === 0) return style.terminal ? 'Nothing to clean up\n' : ''
    return deleted.map((attachment) => line([attachment.containerID, attachment.ifname, network, removed])).join('')
  }
  if (action === 'del') return line([containerID, ifname, network, removed])
  const fine = paint(style, 'green', action === 'status' ? 'ready' : 'ok')
  if (asked) return line([containerID, ifname, network, fine])
  const why = style.terminal ? `: ${NOT_ASKED[action]}` : ''
  return line([containerID, ifname, network, `${paint(style, 'yellow', 'not asked')}${why}`])
}
