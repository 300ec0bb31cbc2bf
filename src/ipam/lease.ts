/** What every store of leases offers, and how a lease names its holder. */
import { CNI_CODE, TsnetError } from '../error.ts'
import type { IpAddress } from '../wire/ip-address.ts'
import type { Range } from './range.ts'

declare const owner: unique symbol

/** The attachment that holds a lease, as the subnet file names it. Made by `leaseOwner`. */
export type LeaseOwner = string & { readonly [owner]: true }

/** Holds an address that a person keeps from being handed out. @see docs/subnet-file.md */
export const BY_HAND = 'reserved:by-hand' as LeaseOwner

/** An address that was just acquired. */
export interface Lease {
  readonly address: IpAddress
  readonly prefixLength: number
  readonly gateway: IpAddress
  readonly range: Range
}

/** A line of the address book. */
export interface HeldLease {
  readonly address: IpAddress
  readonly owner: LeaseOwner
}

/** A network's leases. The caller holds the network's lock as long as the store is open. */
export interface LeaseStore extends Disposable {
  /**
   * Hands out an address of one range set: the requested one, else one never used, else the one released longest ago.
   * @param setIndex Into the range sets that the store was opened with.
   * @throws TsnetError TSNET_POOL_FULL (CNI code 11); for a request TSNET_ADDRESS_TAKEN (102) or TSNET_REQUESTED_ADDRESS (7)
   */
  acquire(owner: LeaseOwner, setIndex: number, requested?: IpAddress): Lease
  /** @returns Whether `owner` held the address; a lease of another stays as it is. */
  release(owner: LeaseOwner, address: IpAddress): boolean
  /** Releases whatever `owner` holds, by a scan of all leases. @returns What was released. */
  releaseAll(owner: LeaseOwner): readonly IpAddress[]
  /** @returns What `owner` holds, by a scan of all leases. */
  leasesOf(owner: LeaseOwner): readonly IpAddress[]
  /** @returns All leases in the order of the file. */
  leases(): readonly HeldLease[]
}

/** Bytes that an owner may take in a line: 64 for a container id, a colon, 15 for an interface name. */
export const OWNER_LENGTH = 80

const HASH_LENGTH = 16

/**
 * @param containerId CNI_CONTAINERID. @param ifname At most 15 bytes.
 * @returns `<containerID>:<ifname>`; one that is longer than 80 bytes, or not ASCII, ends in `~` and 16 hex digits of FNV-1a-64 of the whole.
 * @throws TsnetError TSNET_OWNER when either is not what the CNI specification allows
 */
export function leaseOwner(containerId: string, ifname: string): LeaseOwner {
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(containerId))
    throw refuse(`Container ID ${JSON.stringify(containerId)} is not made of letters, digits, "_", "." and "-"`)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
  if (!/^[^\u0000- /:\u007f]+$/.test(ifname) || Buffer.byteLength(ifname) > 15)
    throw refuse(`Interface name ${JSON.stringify(ifname)} is not 1 to 15 bytes without slash, colon and space`)
  const whole = `${containerId}:${ifname}`
  if (whole.length <= OWNER_LENGTH && /^[!-~]*$/.test(whole)) return whole as LeaseOwner
  const prefix = whole.slice(0, OWNER_LENGTH - HASH_LENGTH - 1).replace(/[^!-~]/g, '_')
  return `${prefix}~${fnv1a64(Buffer.from(whole)).toString(16).padStart(HASH_LENGTH, '0')}` as LeaseOwner
}

/** @see draft-eastlake-fnv-21 section 2, FNV-1a with the 64-bit prime and offset basis */
function fnv1a64(bytes: Uint8Array): bigint {
  let hash = 0xcbf29ce484222325n
  for (const byte of bytes) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn
  return hash
}

function refuse(message: string): TsnetError {
  return new TsnetError('TSNET_OWNER', message, { cniCode: CNI_CODE.invalidEnvironment })
}
