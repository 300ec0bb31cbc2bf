import type { Attachment } from './attachments.ts'

/** @returns The records as a JSON list, each with its status; of an unreadable one only its name is known. */
export function jsonOf(attachments: readonly Attachment[]): string {
  return `${JSON.stringify(
    attachments.map(({ owner, record, status }) => ({ ...(record ?? owner), status })),
    undefined,
    2,
  )}\n`
}
