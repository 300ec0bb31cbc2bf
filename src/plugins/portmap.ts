/** Type `portmap`: publishes ports of containers on the host. It comes after the plugin that has made the interface. */
import { openContainerNetns } from '../chained/container-netns.ts'
import { collectPorts, missingPorts, publishPorts, withdrawPorts } from '../chained/port-publishing.ts'
import type { PortRules } from '../chained/port-rules.ts'
import { defaultPortBackend, ensureBackend } from '../chained/port-writers.ts'
import { findPreviousResult, firstAddresses, requirePreviousResult } from '../chained/previous-result.ts'
import type { PortMapping } from '../cni/port-mapping.ts'
import type { Result } from '../cni/result.ts'
import { parseValidAttachments } from '../cni/valid-attachments.ts'
import { TsnetError } from '../error.ts'
import type { PublishedPort } from '../nat/model.ts'
import type { Owner } from '../plan/owner.ts'
import type { IpPrefix } from '../wire/ip-address.ts'
import { refuseMissingRules } from './check-failure.ts'
import { ownerOf, type Plugin, type PluginRequest } from './plugin.ts'
import { type PortmapConfig, parsePortmapConfig } from './portmap-config.ts'

const NOTHING = { ports: [], targets: [] }

export const portmap: Plugin = {
  add: (request) => {
    const config = parsePortmapConfig(request.config)
    const previous = requirePreviousResult(request.config)
    const owner = ownerOf(request)
    const rules = rulesOf(owner, config, previous)
    if (rules.ports.length === 0) return previous
    using netns = openContainerNetns(request.environment, request.context)
    publishPorts({ owner, netns, rules, backend: config.backend ?? defaultPortBackend() }, request.context)
    return previous
  },
  del: (request) => withdrawPorts(ownerOf(request), knownOf(request), request.context),
  check: (request) => {
    const config = parsePortmapConfig(request.config)
    const owner = ownerOf(request)
    const rules = rulesOf(owner, config, requirePreviousResult(request.config))
    if (rules.ports.length === 0) return
    const missing = missingPorts(owner, rules, { backend: config.backend ?? defaultPortBackend(), state: request.context.state })
    refuseMissingRules(`The published ports of "${owner.containerID}" are not whole`, missing)
  },
  gc: ({ config, context }) => {
    const valid = parseValidAttachments(config.raw)
    if (valid !== undefined) collectPorts(config.name, valid, context)
  },
  status: ({ config }) => ensureBackend(parsePortmapConfig(config).backend ?? defaultPortBackend()),
}

function rulesOf(owner: Owner, { mappings, options }: PortmapConfig, previous: Result): PortRules {
  const { network, containerID, ifname } = owner
  const targets = firstAddresses(previous, ifname)
  return { network, containerID, ports: targets.flatMap((target) => mappings.flatMap((mapping) => portOf(mapping, target))), targets, options }
}

/** A mapping of the other family's host address leads nowhere. */
function portOf({ protocol, hostPort, containerPort, hostIP }: PortMapping, { address }: IpPrefix): readonly PublishedPort[] {
  if (hostIP !== undefined && hostIP.family !== address.family) return []
  return [{ protocol, hostPort, count: 1, address, containerPort, ...(hostIP !== undefined && hostIP.value !== 0n && { hostAddress: hostIP }) }]
}

/** What a DEL says, as far as it can be read: nothing of it may keep the rest from being removed. */
function knownOf(request: PluginRequest): Pick<PortRules, 'ports' | 'targets'> {
  const previous = findPreviousResult(request.config)
  if (previous === undefined) return NOTHING
  try {
    return rulesOf(ownerOf(request), parsePortmapConfig(request.config), previous)
  } catch (error) {
    if (!(error instanceof TsnetError)) throw error
    return { ports: [], targets: firstAddresses(previous, request.environment.ifname) }
  }
}
