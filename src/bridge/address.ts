/** Addresses of an interface. */
import { isErrno } from '../error.ts'
import { addAddress, listAddresses, type ObservedAddress, removeAddress } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { AF_INET, AF_INET6, IFA_F_NODAD, RT_SCOPE_UNIVERSE } from '../wire/address.ts'
import { addressFromBytes, addressToBytes, formatPrefix, type IpPrefix, lastAddress } from '../wire/ip-address.ts'

/** Adds an address that is usable at once: without duplicate address detection. @returns false when the link had it */
export function ensureAddress(rt: NetlinkSocket, index: number, prefix: IpPrefix): boolean {
  try {
    addAddress(rt, `add the address ${formatPrefix(prefix)}`, kernelAddress(index, prefix))
    return true
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return false
    throw error
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
