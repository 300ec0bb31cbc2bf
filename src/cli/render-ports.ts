/** Published ports as text for a person, and for programs. */
import type { Owner } from '../plan/owner.ts'
import type { RecordedPort } from '../plan/record.ts'
import type { Attachment } from './attachments.ts'
import { formatPort, hostSide, targetSide } from './render-attachment.ts'
import { formatTable, type Style } from './style.ts'

const HEAD = ['NETWORK', 'INTERFACE', 'PROTOCOL', 'HOST', 'CONTAINER', 'CLIENTS']

/** What one attachment gained or lost. */
export interface ChangedPorts {
  readonly owner: Owner
  readonly ports: readonly RecordedPort[]
}

/** @returns What `port ls` prints: a row for each port; as JSON each attachment with all its ports. */
export function formatPorts(style: Style, attachments: readonly Attachment[], json: boolean): string {
  if (json) return jsonOf(attachments.map(({ owner, record }) => ({ owner, ports: record?.ports ?? [] })))
  const rows = attachments.flatMap(({ owner, record }) =>
    (record?.ports ?? []).map((port) => [
      owner.network,
      owner.ifname,
      port.protocol,
      hostSide(port),
      targetSide(port),
      port.allow?.join(', ') ?? 'all',
    ]),
  )
  return rows.length === 0 ? '' : formatTable(style, [HEAD, ...rows])
}

/** @returns What `port add` and `port rm` print: the ports that came or went, in the words of `attach`. */
export function formatChangedPorts(changed: readonly ChangedPorts[], json: boolean): string {
  return json ? jsonOf(changed) : changed.flatMap(({ ports }) => ports.map((port) => `${formatPort(port)}\n`)).join('')
}

function jsonOf(changed: readonly ChangedPorts[]): string {
  const list = changed.map(({ owner: { network, containerID, ifname }, ports }) => ({ network, containerID, ifname, ports }))
  return `${JSON.stringify(list, undefined, 2)}\n`
}
