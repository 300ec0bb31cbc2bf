/** CHECK of what the types `bridge` and `ptp` have in common. */
import type { ContainerLink } from '../chained/container-link.ts'
import { openContainerNetns } from '../chained/container-netns.ts'
import { differences } from '../chained/device-check.ts'
import { missingMasquerade } from '../chained/masquerade.ts'
import { addressesIn, requireCheckedResult } from '../chained/previous-result.ts'
import { findPeer } from '../chained/veth-pair.ts'
import type { Result } from '../cni/result.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { findLink, type ObservedLink, openRtnetlink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { type Owner, ownerText } from '../plan/owner.ts'
import { within } from '../sys/netns.ts'
import { IFF_UP } from '../wire/link.ts'
import { ipamOf } from './ipam.ts'
import { ownerOf, type PluginRequest } from './plugin.ts'
import type { VethConfig } from './veth-config.ts'

/** Where a CHECK looks. */
export interface CheckedVeth {
  readonly owner: Owner
  readonly host: NetlinkSocket
  /** The result of the whole chain. */
  readonly expected: Result
  /** The host's end. */
  readonly end: ObservedLink
  /** The container's end. */
  readonly link: ObservedLink
}

interface CheckWish extends VethConfig {
  readonly linkDown?: boolean
}

/**
 * @param inspect Tells in words what of the type's own is not as it should be.
 * @throws TsnetError TSNET_CHECK, CNI code 104, with everything that is wrong; TSNET_CONFIG, CNI code 7, without prevResult
 */
export function checkVeth(request: PluginRequest, config: CheckWish, inspect: (veth: CheckedVeth) => readonly string[]): void {
  const expected = requireCheckedResult(request.config)
  const ipam = ipamOf(request)
  ipam?.check()
  refuse(ownerOf(request), findProblems(request, config, { expected, inspect }))
}

interface Expectation {
  readonly expected: Result
  readonly inspect: (veth: CheckedVeth) => readonly string[]
}

function findProblems(request: PluginRequest, config: CheckWish, { expected, inspect }: Expectation): readonly string[] {
  const owner = ownerOf(request)
  using netns = openContainerNetns(request.environment, request.context)
  using container = within(netns, openRtnetlink)
  using host = openRtnetlink()
  const link = findLink(container, owner.ifname)
  if (link === undefined) return [`the interface "${owner.ifname}" is missing`]
  const end = findPeer(host, link, netns)
  if (end === undefined) return [`"${owner.ifname}" is no veth pair with the host`]
  const place: ContainerLink = { rt: container, netns, name: owner.ifname }
  return [
    ...((link.flags & IFF_UP) === 0 && config.linkDown !== true ? [`"${owner.ifname}" is down`] : []),
    ...((end.flags & IFF_UP) === 0 ? [`"${end.ifname}" is down`] : []),
    ...differences(place, expected, link),
    ...missingRules(owner, config, ownResult(owner, expected)),
    ...inspect({ owner, host, expected: ownResult(owner, expected), end, link }),
  ]
}

/** A later plugin may have added addresses of other interfaces. */
function ownResult({ ifname }: Owner, expected: Result): Result {
  const at = expected.interfaces.findIndex(({ name, sandbox }) => name === ifname && sandbox !== undefined)
  return { ...expected, ips: expected.ips.filter(({ interface: index }) => index === undefined || index === at) }
}

function missingRules(owner: Owner, { masquerade }: VethConfig, expected: Result): readonly string[] {
  if (masquerade === undefined) return []
  return missingMasquerade({ owner, addresses: addressesIn(expected), ...masquerade }).map((rule) => `of the masquerading is missing: ${rule}`)
}

function refuse(owner: Owner, problems: readonly string[]): void {
  const [first, ...others] = problems
  if (first === undefined) return
  throw new TsnetError('TSNET_CHECK', `Attachment "${ownerText(owner)}" is not as it was made: ${first}`, {
    cniCode: CNI_CODE.checkFailed,
    ...(others.length > 0 && { details: `Also: ${others.join('; ')}` }),
  })
}
