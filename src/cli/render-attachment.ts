/** Attachments as text for a person. */
import type { AttachmentRecord, RecordedPort } from '../plan/record.ts'
import type { Attachment } from './attachments.ts'
import { shortNamespace } from './namespace.ts'
import { formatFields, formatTable, paint, type Style } from './style.ts'

const HEAD = ['NETWORK', 'ID', 'INTERFACE', 'ADDRESS', 'PORTS', 'NAMESPACE']
const NONE = '-'
const SHORT_ID_LENGTH = 12

/** @returns What `attach` prints: one line, and one for each published port. */
export function formatAttached(style: Style, record: AttachmentRecord): string {
  const addresses = record.addresses.map(({ address }) => address).join(',') || NONE
  const ports = record.ports.map(formatPort)
  if (!style.terminal) return [[record.containerID, record.ifname, addresses, record.bridge].join('\t'), ...ports].map((line) => `${line}\n`).join('')
  const line = [paint(style, 'bold', record.containerID), record.ifname, paint(style, 'green', addresses), `via ${record.bridge}`].join('  ')
  return [line, ...ports.map((port) => `  ${port}`)].map((part) => `${part}\n`).join('')
}

/** @returns What `detach` and `gc` print: what was given back. */
export function formatDetached(style: Style, attachments: readonly Attachment[]): string {
  const rows = attachments.map(({ owner, record }) => {
    const address = record?.addresses.map((recorded) => recorded.address).join(',') || NONE
    return [owner.containerID, owner.ifname, address, owner.network].join(style.terminal ? '  ' : '\t')
  })
  return rows.map((row) => `${style.terminal ? `detached ${row}` : row}\n`).join('')
}

/** @returns What `ls` prints; a terminal gets a head and short ids. */
export function formatList(style: Style, attachments: readonly Attachment[]): string {
  const rows = attachments.map(({ owner, record, status }) => [
    owner.network,
    style.terminal ? shortID(owner.containerID) : owner.containerID,
    owner.ifname,
    record?.addresses.map(({ address }) => address).join(',') || NONE,
    shortPorts(record?.ports ?? []).join(',') || NONE,
    namespaceCell(record, status),
  ])
  return formatTable(style, [HEAD, ...rows])
}

/** What `inspect` knows beside the record. */
export interface Surroundings {
  /** Who wrote the rules. */
  readonly backend: string
  /** Whether packets leave with the host's address. */
  readonly masquerade: boolean
}

/** @returns What `inspect` prints of one attachment. */
export function formatAttachment(style: Style, { owner, record, status }: Attachment, around: Surroundings): string {
  const head = [
    ['Network', [owner.network]],
    ['ID', [owner.containerID]],
    ['Status', [describeStatus(style, status)]],
  ] as const
  if (record === undefined) return formatFields(style, [...head, ['Interface', [owner.ifname]]])
  return formatFields(style, [
    ...head,
    ['Namespace', [`${record.netns.path} (inode ${record.netns.inode})`]],
    ['Created', [record.created]],
    [
      'Interface',
      [
        [
          record.ifname,
          ...(record.mac === undefined ? [] : [`mac ${record.mac}`]),
          `mtu ${record.mtu}`,
          ...(record.guarded === true ? ['guarded'] : []),
        ].join('  '),
      ],
    ],
    ['Address', record.addresses.map(({ address, gateway }) => (gateway === undefined ? address : `${address}  gateway ${gateway}`))],
    ['Route', record.routes.map(({ dst, gw }) => (gw === undefined ? dst : `${dst} via ${gw}`))],
    ['Bridge', [`${record.bridge}${record.bridgeMac === undefined ? '' : `  mac ${record.bridgeMac}`}`]],
    ['Host end', [`${record.hostVeth}${record.hairpin ? '  hairpin' : ''}`]],
    ['Published', record.ports.map(formatPort)],
    ['Way in', record.ports.map((port) => wayIn(record, port, around.backend))],
    ['Way out', wayOut(record, around)],
  ])
}

/** @returns `tcp://0.0.0.0:8080 -> 10.210.0.2:80`, with ranges where there are several ports. */
export function formatPort(port: RecordedPort): string {
  return `${port.protocol}://${hostSide(port)} -> ${targetSide(port)}${allowedSide(port)}`
}

/** @returns `10.210.0.2:80`, `[fd00::2]:9000-9010`. */
export function targetSide(port: RecordedPort): string {
  return `${bracketed(port.address)}:${range(port.containerPort, port.count)}`
}

/** @returns ` for 192.0.2.0/24 only`, or nothing where everybody may connect. */
function allowedSide({ allow }: RecordedPort): string {
  return allow === undefined ? '' : ` for ${allow.join(', ')} only`
}

/** @returns Each as `8080->80/tcp`; a port that is published in both families on any address stands once. */
export function shortPorts(ports: readonly RecordedPort[]): readonly string[] {
  const texts = ports.map(({ hostAddress, hostPort, containerPort, count, protocol }) => {
    const host = hostAddress === undefined ? '' : `${bracketed(hostAddress)}:`
    return `${host}${range(hostPort, count)}->${range(containerPort, count)}/${protocol}`
  })
  return [...new Set(texts)]
}

function wayIn(record: AttachmentRecord, port: RecordedPort, backend: string): string {
  const rule = backend === 'iptables' ? 'nat PREROUTING, TSNET-DNAT' : `${backend} prerouting`
  return [
    `${hostSide(port)}/${port.protocol}`,
    rule,
    targetSide(port),
    record.bridge,
    record.hostVeth,
    `${record.ifname} in ${shortNamespace(record.netns.path)}`,
  ].join(' -> ')
}

function wayOut(record: AttachmentRecord, { backend, masquerade }: Surroundings): readonly string[] {
  const gateways = record.addresses.flatMap(({ gateway }) => gateway ?? [])
  if (gateways.length === 0) return []
  const rule = backend === 'iptables' ? 'nat POSTROUTING, TSNET-MASQ' : `${backend} postrouting`
  const hops = [record.ifname, record.hostVeth, `${record.bridge} (${gateways.join(', ')})`, "the host's routes", ...(masquerade ? [rule] : [])]
  return [hops.join(' -> ')]
}

/** @returns `0.0.0.0:8080`, `[::]:8000-8010`. */
export function hostSide({ hostAddress, address, hostPort, count }: RecordedPort): string {
  return `${bracketed(hostAddress ?? (address.includes(':') ? '::' : '0.0.0.0'))}:${range(hostPort, count)}`
}

function range(first: number, count: number): string {
  return count === 1 ? `${first}` : `${first}-${first + count - 1}`
}

function bracketed(address: string): string {
  return address.includes(':') ? `[${address}]` : address
}

/** Runtimes use 64 hex digits, of which 12 are enough for people. */
function shortID(id: string): string {
  return /^[0-9a-f]{64}$/.test(id) ? id.slice(0, SHORT_ID_LENGTH) : id
}

function namespaceCell(record: AttachmentRecord | undefined, status: Attachment['status']): string {
  const name = record === undefined ? NONE : shortNamespace(record.netns.path)
  return status === 'attached' ? name : `${name} (${status})`
}

function describeStatus(style: Style, status: Attachment['status']): string {
  switch (status) {
    case 'attached':
      return paint(style, 'green', 'attached')
    case 'incomplete':
      return `${paint(style, 'yellow', 'incomplete')}: it is being attached, or that was interrupted; detach removes it`
    case 'gone':
      return `${paint(style, 'yellow', 'gone')}: its namespace does not exist any more; detach or gc removes it`
    case 'unreadable':
      return `${paint(style, 'red', 'unreadable')}: its record is damaged; detach removes what can be found`
  }
}
