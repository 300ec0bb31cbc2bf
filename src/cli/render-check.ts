import type { Attachment } from './attachments.ts'
import { paint, type Style } from './style.ts'

export interface Check {
  readonly attachment: Attachment
  /** Absent when everything is as it should be. */
  readonly problem?: string
}

/** @returns A line for each attachment, or a JSON list. */
export function formatChecks(style: Style, checks: readonly Check[], json: boolean): string {
  if (json) {
    const findings = checks.map(({ attachment: { owner }, problem }) => ({
      ...owner,
      ok: problem === undefined,
      ...(problem !== undefined && { problem }),
    }))
    return `${JSON.stringify(findings, undefined, 2)}\n`
  }
  return checks
    .map(({ attachment: { owner }, problem }) => {
      const verdict = problem === undefined ? paint(style, 'green', 'ok') : paint(style, 'red', 'incomplete')
      return `${[owner.containerID, owner.ifname, owner.network, verdict].join(style.terminal ? '  ' : '\t')}\n`
    })
    .join('')
}
