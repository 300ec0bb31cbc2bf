/** Addresses of an interface. */
import { unlessErrno } from '../error.ts'
import { addAddress, isLocalAddress, listAddresses, type ObservedAddress, removeAddress } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { now, sleep } from '../sys/time.ts'
import { AF_INET, AF_INET6, IFA_F_NODAD, RT_SCOPE_UNIVERSE } from '../wire/address.ts'
import { addressFromBytes, addressToBytes, formatPrefix, type IpAddress, type IpPrefix, lastAddress } from '../wire/ip-address.ts'

const LIMIT_MS = 1000
const POLL_MS = 0.2

/** Adds an address that is usable at once: without duplicate address detection. @returns false when the link had it */
export function ensureAddress(rt: NetlinkSocket, index: number, prefix: IpPrefix): boolean {
  return unlessErrno(['EEXIST'], () => addAddress(rt, `add the address ${formatPrefix(prefix)}`, kernelAddress(index, prefix)))
}

/**
 * Waits until the host takes packets for the address: for IPv6 a work queue of the kernel makes the route, on a busy machine long after
 * the request is answered.
 * @returns false when it did not happen within a second
 */
export function waitForAddress(rt: NetlinkSocket, { family, value }: IpAddress): boolean {
  const bytes = addressToBytes({ family, value })
  for (const deadline = now() + LIMIT_MS; ; sleep(POLL_MS)) {
    if (isLocalAddress(rt, family === 4 ? AF_INET : AF_INET6, bytes)) return true
    if (now() > deadline) return false
  }
}

/** @returns Whether the link had the address. */
export function deleteAddress(rt: NetlinkSocket, index: number, prefix: IpPrefix): boolean {
  return removeAddress(rt, `remove the address ${formatPrefix(prefix)}`, kernelAddress(index, prefix))
}

/** @returns The link's addresses with their prefix lengths, link-local ones included. */
export function addressesOf(rt: NetlinkSocket, index: number): readonly IpPrefix[] {
  return listAddresses(rt, index).flatMap((entry) => {
    const bytes = entry.local ?? entry.address
    return bytes === undefined ? [] : [{ address: addressFromBytes(bytes), prefixLength: entry.prefixLength }]
  })
}

function kernelAddress(index: number, prefix: IpPrefix): ObservedAddress {
  const address = addressToBytes(prefix.address)
  const header = { index, prefixLength: prefix.prefixLength, flags: prefix.address.family === 6 ? IFA_F_NODAD : 0, scope: RT_SCOPE_UNIVERSE }
  if (prefix.address.family === 6) return { ...header, family: AF_INET6, local: address, address }
  const broadcast = prefix.prefixLength < 31 && { broadcast: addressToBytes(lastAddress(prefix)) }
  return { ...header, family: AF_INET, local: address, address, ...broadcast }
}
