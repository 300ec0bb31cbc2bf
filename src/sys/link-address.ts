import { readFileSync } from 'node:fs'
import { isErrno } from '../error.ts'

/** NET_ADDR_SET of include/uapi/linux/netdevice.h. */
const SET = '3'

/** @returns Whether somebody has set the MAC address of the link, so that the kernel leaves it alone. False when that cannot be told. */
export function isMacSet(ifname: string): boolean {
  try {
    return readFileSync(`/sys/class/net/${ifname}/addr_assign_type`, 'utf8').trim() === SET
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false
    throw error
  }
}
