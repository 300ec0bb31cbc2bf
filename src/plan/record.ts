/** Attachment records: what an ADD did, enough to take it back without namespace and without prevResult. */
import { rmdirSync } from 'node:fs'
import type { LinkSettings } from '../bridge/link-settings.ts'
import type { RateLimits } from '../bridge/shaper.ts'
import { isErrno } from '../error.ts'
import type { Protocol, PublishedPort } from '../nat/model.ts'
import { formatAddress, formatPrefix, type IpAddress, parseAddress, parsePrefix } from '../wire/ip-address.ts'
import type { Sysctl } from './host-switches.ts'
import type { Owner } from './owner.ts'
import { attachmentsFolder, namesIn, readWhole, recordPath, removeFile, type StateFolder, writeWhole } from './state-folder.ts'

const FORMAT = 1
const SUFFIX = '.json'
/** What an ADD that was killed while it wrote its record left. */
const UNFINISHED = '.new'

export interface RecordedAddress {
  /** `address/length`. */
  readonly address: string
  readonly gateway?: string
}

export interface RecordedRoute {
  readonly dst: string
  readonly gw?: string
  readonly mtu?: number
  readonly advmss?: number
  readonly priority?: number
  readonly table?: number
  readonly scope?: number
}

export interface RecordedPort {
  readonly protocol: Protocol
  /** Absent: any address of the family. */
  readonly hostAddress?: string
  readonly hostPort: number
  readonly count: number
  readonly address: string
  readonly containerPort: number
  /** `address/length`: who alone may connect. */
  readonly allow?: readonly string[]
}

export interface AttachmentRecord extends Owner {
  readonly format: typeof FORMAT
  /** `adding` from before the first change to the kernel; `attached` when the ADD is complete. */
  readonly state: 'adding' | 'attached'
  readonly netns: { readonly path: string; readonly inode: number }
  readonly bootId: string
  /** Which request made it: one that is repeated, because its answer was lost, is recognised. Absent where nothing repeats requests. */
  readonly request?: string
  /** ISO 8601. */
  readonly created: string
  readonly bridge: string
  readonly hostVeth: string
  readonly hairpin: boolean
  /** Whether the bridge keeps it from other such ports; absent: not. */
  readonly isolated?: boolean
  /** Whether its ports answer at its own address too; absent: not. */
  readonly direct?: boolean
  /** Whether it may send only what is its own; absent when not. */
  readonly guarded?: true
  /** Absent: not limited. */
  readonly limits?: RateLimits
  /** Kernel parameters of the container that the configuration wants. */
  readonly sysctls?: readonly Sysctl[]
  /** Settings of the container's interface beyond MAC and MTU. */
  readonly settings?: LinkSettings
  /** Bytes. */
  readonly mtu: number
  /** Lower case with colons: the container's interface, the host's end, the bridge. */
  readonly mac: string
  readonly hostMac: string
  readonly bridgeMac: string
  readonly addresses: readonly RecordedAddress[]
  readonly routes: readonly RecordedRoute[]
  readonly ports: readonly RecordedPort[]
  /** The routing table that is its interface's own, used when the container has several; absent while it is made. */
  readonly table?: number
  /** Ports that are being withdrawn: rules and claims may still be there. Absent when there are none. */
  readonly leaving?: readonly RecordedPort[]
}

export function writeRecord(state: StateFolder, record: AttachmentRecord): void {
  writeWhole(recordPath(state, record), `${JSON.stringify(record, undefined, 1)}\n`)
}

/** @returns The record, or undefined when there is none that can be read. */
export function readRecord(state: StateFolder, owner: Owner): AttachmentRecord | undefined {
  return parseRecord(readWhole(recordPath(state, owner)), owner)
}

/** Removes the record, and its network's folder with the last one. */
export function removeRecord(state: StateFolder, owner: Owner): void {
  removeFile(recordPath(state, owner))
  removeFile(`${recordPath(state, owner)}${UNFINISHED}`)
  try {
    rmdirSync(attachmentsFolder(state, owner.network))
  } catch (error) {
    if (!isErrno(error, 'ENOTEMPTY', 'ENOENT')) throw error
  }
}

/** @returns The attachments of a network, by their file names, whether or not the records can be read. */
export function listOwners(state: StateFolder, network: string): readonly Owner[] {
  const names = namesIn(attachmentsFolder(state, network)).map((name) => (name.endsWith(UNFINISHED) ? name.slice(0, -UNFINISHED.length) : name))
  return [...new Set(names)].flatMap((name) => {
    const colon = name.lastIndexOf(':')
    if (!name.endsWith(SUFFIX) || colon < 1) return []
    return [{ network, containerID: name.slice(0, colon), ifname: name.slice(colon + 1, -SUFFIX.length) }]
  })
}

/** @returns The names of the networks that have an attachment. */
export function listLiveNetworks(state: StateFolder): readonly string[] {
  return namesIn(`${state.root}/attachments`).filter((network) => listOwners(state, network).length > 0)
}

/** @returns The addresses without their prefix lengths. */
export function recordedAddresses({ addresses }: AttachmentRecord): readonly IpAddress[] {
  return addresses.flatMap(({ address }) => parsePrefix(address)?.address ?? [])
}

export function recordPort(port: PublishedPort): RecordedPort {
  const { hostAddress, address, allow, ...rest } = port
  return {
    ...rest,
    ...(hostAddress && { hostAddress: formatAddress(hostAddress) }),
    address: formatAddress(address),
    ...(allow && { allow: allow.map(formatPrefix) }),
  }
}

export function recordedPort(port: RecordedPort): PublishedPort {
  const { hostAddress, address, allow, ...rest } = port
  return {
    ...rest,
    ...(hostAddress !== undefined && { hostAddress: required(hostAddress) }),
    address: required(address),
    ...(allow && { allow: allow.flatMap((text) => parsePrefix(text) ?? []) }),
  }
}

function required(text: string) {
  const address = parseAddress(text)
  if (address === undefined) throw new TypeError(`The record holds no address but ${JSON.stringify(text)}`)
  return address
}

/** Half a record, or one that something has damaged, would take back half an attachment: it counts as none. */
function parseRecord(text: string | undefined, { network, containerID, ifname }: Owner): AttachmentRecord | undefined {
  if (text === undefined) return undefined
  try {
    const record = JSON.parse(text) as AttachmentRecord
    const isOwn = record.network === network && record.containerID === containerID && record.ifname === ifname
    return record.format === FORMAT && isOwn && isWhole(record) ? record : undefined
  } catch {
    return undefined
  }
}

/** @throws TypeError for some that are not */
function isWhole({ state, netns, addresses, routes, ports, leaving = [], ...texts }: AttachmentRecord): boolean {
  return (
    (state === 'adding' || state === 'attached') &&
    [netns.path, texts.bootId, texts.created, texts.bridge, texts.hostVeth, texts.hostMac, texts.mac, texts.bridgeMac].every(isText) &&
    Number.isSafeInteger(netns.inode) &&
    Number.isSafeInteger(texts.mtu) &&
    addresses.every(({ address, gateway }) => parsePrefix(address) !== undefined && (gateway === undefined || parseAddress(gateway) !== undefined)) &&
    routes.every(({ dst }) => isText(dst)) &&
    [...ports, ...leaving].every((port) => recordedPort(port).count > 0 && Number.isSafeInteger(port.hostPort))
  )
}

function isText(value: unknown): boolean {
  return typeof value === 'string'
}
