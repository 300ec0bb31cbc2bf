/** CHECK: what a complete attachment lacks. */
import { CNI_CODE, TsnetError } from '../error.ts'
import { leaseOwner } from '../ipam/lease.ts'
import { openExistingSubnet } from '../ipam/open-subnet.ts'
import { openRtnetlink } from '../netlink/rtnetlink.ts'
import { within } from '../sys/netns.ts'
import { formatAddress, parsePrefix } from '../wire/ip-address.ts'
import type { PlanContext } from './attach.ts'
import { withBackend } from './backend.ts'
import { desiredOf } from './desired.ts'
import { describeStep, diff } from './diff.ts'
import { readNetwork } from './network.ts'
import { observeAll } from './observe.ts'
import { type Owner, ownerText } from './owner.ts'
import { type AttachmentRecord, readRecord } from './record.ts'
import { siblingBridges } from './sibling-networks.ts'
import { siblingsOf } from './siblings.ts'
import { lockNetwork, networkFolder } from './state-folder.ts'

/**
 * @param netns Path of the container's namespace as the caller knows it.
 * @returns The record, when kernel and leases are as it says.
 * @throws TsnetError with CNI code 3 for an unknown attachment, 104 listing everything that it lacks
 */
export function check(owner: Owner, netns: string, context: PlanContext): AttachmentRecord {
  const record = readRecord(context.state, owner)
  using _lock = record && lockNetwork(context.state, owner.network)
  const network = readNetwork(context.state, owner.network)
  if (record === undefined || network === undefined) {
    throw new TsnetError('TSNET_UNKNOWN', `Cannot check "${ownerText(owner)}": there is no such attachment`, {
      cniCode: CNI_CODE.unknownContainer,
      hint: 'tsnet ls shows those that there are',
    })
  }
  using container = context.openNetns(netns)
  using host = openRtnetlink()
  const { backend } = withBackend(context, network.backend)
  using inside = within(container, openRtnetlink)
  const siblings = { records: siblingsOf(context.state, record), bridges: siblingBridges(owner, inside, context.state) }
  const desired = desiredOf(record, network, siblings)
  const steps = diff(desired, observeAll(host, desired, { netns: container, backend }))
  const lacking = [...steps.map(describeStep), ...lostLeases(record, context)]
  if (record.state === 'adding') lacking.unshift('its end: the ADD did not complete')
  if (lacking.length === 0) return record
  throw new TsnetError('TSNET_CHECK', `Attachment "${ownerText(owner)}" is not complete, it lacks ${lacking[0]}`, {
    cniCode: CNI_CODE.checkFailed,
    ...(lacking.length > 1 && { details: `It also lacks ${lacking.slice(1).join('; ')}` }),
    hint: 'tsnet repair makes it again',
  })
}

/** @returns What the subnet file lacks of the attachment's addresses, as text. */
function lostLeases(record: AttachmentRecord, context: PlanContext): readonly string[] {
  using store = openExistingSubnet(networkFolder(context.state, record.network))
  const held = store?.leasesOf(leaseOwner(record.containerID, record.ifname)).map(formatAddress) ?? []
  return record.addresses.flatMap(({ address }) => {
    const prefix = parsePrefix(address)
    return prefix === undefined || held.includes(formatAddress(prefix.address)) ? [] : [`the lease of ${address}`]
  })
}
