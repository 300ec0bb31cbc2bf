/** The address book of a network, opened with what the records of its attachments vouch for. The caller holds the network's lock. */
import { type HeldLease, leaseOwner } from '../ipam/lease.ts'
import { openExistingSubnet } from '../ipam/open-subnet.ts'
import type { SubnetStore } from '../ipam/store.ts'
import { listOwners, readRecord, recordedAddresses } from './record.ts'
import { networkFolder, type StateFolder } from './state-folder.ts'

/** @returns The store, or undefined when the network has none. @throws TsnetError TSNET_SUBNET_FILE */
export function openBook(state: StateFolder, network: string): SubnetStore | undefined {
  return openExistingSubnet(networkFolder(state, network), () => recordedLeases(state, network))
}

/** @returns Every lease that a record of the network names. */
export function recordedLeases(state: StateFolder, network: string): readonly HeldLease[] {
  return listOwners(state, network).flatMap((owner) => {
    const record = readRecord(state, owner)
    const holder = leaseOwner(owner.containerID, owner.ifname)
    return record === undefined ? [] : recordedAddresses(record).map((address) => ({ address, owner: holder }))
  })
}
