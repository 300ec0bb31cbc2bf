/**
 * Whose an address is. Two attachments may have the same one for a moment: ADD a with x, a ends, ADD b with x, and only then DEL a,
 * which must not take away what is b's.
 *
 *     <state>/chained/firewall-addresses/<address>     the owner
 */
import { join } from 'node:path'
import { type Owner, ownerText } from '../plan/owner.ts'
import { readWhole, removeFile, type StateFolder, writeWhole } from '../plan/state-folder.ts'
import { formatAddress, type IpAddress } from '../wire/ip-address.ts'

export function holdAddress(state: StateFolder, address: IpAddress, owner: Owner): void {
  writeWhole(pathOf(state, address), ownerText(owner))
}

/** @returns Whether it is somebody else's. */
export function isHeldByAnother(state: StateFolder, address: IpAddress, owner: Owner): boolean {
  const holder = readWhole(pathOf(state, address))
  return holder !== undefined && holder !== ownerText(owner)
}

/** Somebody else's is passed over. */
export function releaseAddress(state: StateFolder, address: IpAddress, owner: Owner): void {
  if (!isHeldByAnother(state, address, owner)) removeFile(pathOf(state, address))
}

function pathOf(state: StateFolder, address: IpAddress): string {
  return join(state.root, 'chained', 'firewall-addresses', formatAddress(address))
}
