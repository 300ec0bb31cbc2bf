/** Type `firewall`: lets containers through the host's firewall, and keeps bridges apart. It comes after the plugin that has made the interface. */
import { openContainerNetns } from '../chained/container-netns.ts'
import { closeFirewall, collectFirewall, isInFirewalld, missingInFirewall, openFirewall } from '../chained/firewalling.ts'
import { addressesIn, findPreviousResult, requirePreviousResult } from '../chained/previous-result.ts'
import type { Result } from '../cni/result.ts'
import { parseValidAttachments } from '../cni/valid-attachments.ts'
import { requireFirewalld } from '../nat/firewalld.ts'
import { findIptables } from '../nat/iptables/program.ts'
import type { IpAddress } from '../wire/ip-address.ts'
import { refuseMissingRules } from './check-failure.ts'
import { parseFirewallConfig } from './firewall-config.ts'
import { ownerOf, type Plugin } from './plugin.ts'
import { refuseResident } from './resident.ts'

export const firewall: Plugin = {
  add: (request) => {
    const previous = requirePreviousResult(request.config)
    const options = parseFirewallConfig(request.config, previous)
    if (options.backend === 'firewalld') refuseResident(request.context, 'firewalld')
    using netns = openContainerNetns(request.environment, request.context)
    openFirewall({ owner: ownerOf(request), netns, addresses: hostsIn(previous), options }, request.context)
    return previous
  },
  del: (request) => {
    const previous = findPreviousResult(request.config)
    if (isInFirewalld(ownerOf(request), request.context.state)) refuseResident(request.context, 'firewalld')
    closeFirewall(ownerOf(request), previous === undefined ? [] : hostsIn(previous), request.context)
  },
  check: (request) => {
    const previous = requirePreviousResult(request.config)
    const options = parseFirewallConfig(request.config, previous)
    const owner = ownerOf(request)
    const missing = missingInFirewall({ owner, addresses: hostsIn(previous), options }, request.context.state)
    refuseMissingRules(`The firewall is not open for "${owner.containerID}"`, missing)
  },
  gc: ({ config, context }) => {
    const valid = parseValidAttachments(config.raw)
    if (valid !== undefined) collectFirewall(config.name, valid, context)
  },
  status: ({ config }) => {
    if (parseFirewallConfig(config).backend === 'firewalld') requireFirewalld()
    else findIptables(4, 'restore')
  },
}

function hostsIn(previous: Result): readonly IpAddress[] {
  return addressesIn(previous).map(({ address }) => address)
}
