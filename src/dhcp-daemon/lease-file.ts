/**
 * Leases outlive the daemon: whoever starts next goes on renewing them.
 *
 *     <state>/dhcp/<network>/<containerID>:<ifname>.json     0600
 */
import { readdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { isObject, type JsonObject, optionalInteger, optionalObject } from '../cni/json.ts'
import type { Withdrawn } from '../dhcp/interface.ts'
import type { DhcpLease } from '../dhcp/lease.ts'
import { isErrno, TsnetError } from '../error.ts'
import type { Owner } from '../plan/owner.ts'
import { namesIn, readWhole, removeFile, type StateFolder, writeWhole } from '../plan/state-folder.ts'
import { bootId } from '../sys/boot.ts'
import { parseAddress } from '../wire/ip-address.ts'
import { formatWishes, parseNetns, parseOwner, parseWishes, type Wishes } from './protocol.ts'

const FORMAT = 1
const SUFFIX = '.json'

export interface LeaseRecord {
  readonly owner: Owner
  readonly netns: { readonly path: string; readonly inode: number }
  readonly wishes: Wishes
  readonly lease: DhcpLease
  /** Of the interface, bytes. */
  readonly linkMtu: number
  /** What was taken from the interface when the lease was lost; absent while it is held. */
  readonly withdrawn?: Withdrawn
}

export function writeLease(state: StateFolder, record: LeaseRecord): void {
  const { owner, netns, wishes, lease, linkMtu, withdrawn } = record
  const document = { format: FORMAT, bootId: bootId(), ...owner, netns, ...formatWishes(wishes), lease, linkMtu, ...(withdrawn && { withdrawn }) }
  writeWhole(leasePath(state, owner), `${JSON.stringify(document)}\n`)
}

export function removeLease(state: StateFolder, owner: Owner): void {
  removeFile(leasePath(state, owner))
  try {
    rmdirSync(join(folderOf(state), owner.network))
  } catch (error) {
    if (!isErrno(error, 'ENOTEMPTY', 'ENOENT')) throw error
  }
}

/** @param warn Hears of files that hold no lease. @returns The leases of this boot; files of another are removed. */
export function readLeases(state: StateFolder, warn: (path: string) => void): readonly LeaseRecord[] {
  return namesIn(folderOf(state)).flatMap((network) =>
    filesIn(join(folderOf(state), network)).flatMap((path) => {
      const record = parseLease(readWhole(path) ?? '')
      if (record === undefined) warn(path)
      if (record === undefined || record === 'of another boot') {
        removeFile(path)
        return []
      }
      return [record]
    }),
  )
}

function filesIn(folder: string): readonly string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => join(folder, name))
}

function folderOf(state: StateFolder): string {
  return join(state.root, 'dhcp')
}

function leasePath(state: StateFolder, { network, containerID, ifname }: Owner): string {
  return join(folderOf(state), network, `${containerID}:${ifname}${SUFFIX}`)
}

/** The file is the daemon's own, in a folder of root's; a person's edit must not end the daemon all the same. */
function parseLease(text: string): LeaseRecord | 'of another boot' | undefined {
  try {
    const json: unknown = JSON.parse(text)
    if (!isObject(json) || json['format'] !== FORMAT) return undefined
    if (json['bootId'] !== bootId()) return 'of another boot'
    const lease = parseGranted(optionalObject(json, 'lease') ?? {})
    if (lease === undefined) return undefined
    const withdrawn = optionalObject(json, 'withdrawn') as Withdrawn | undefined
    const linkMtu = optionalInteger(json, 'linkMtu', { min: 0, max: 2 ** 32 }) ?? 0
    return { owner: parseOwner(json), netns: parseNetns(json), wishes: parseWishes(json), lease, linkMtu, ...(withdrawn && { withdrawn }) }
  } catch (error) {
    if (error instanceof TsnetError || error instanceof SyntaxError) return undefined
    throw error
  }
}

function parseGranted(lease: JsonObject): DhcpLease | undefined {
  const { address, prefixLength, server, serverMac } = lease
  const isNumber = (key: string) => typeof lease[key] === 'number'
  const isAddress = (value: unknown) => typeof value === 'string' && parseAddress(value)?.family === 4
  const isMac = typeof serverMac === 'string' && /^[0-9a-f]{12}$/.test(serverMac)
  const isWhole =
    isAddress(address) && isAddress(server) && isMac && Number.isInteger(prefixLength) && ['renewAt', 'rebindAt', 'expireAt'].every(isNumber)
  return isWhole ? (lease as unknown as DhcpLease) : undefined
}
