/** ADD and DEL for programs that make containers themselves: what `tsnet attach` and `tsnet detach` do. */
import { parsePublished } from '../cli/publish.ts'
import { parseMac } from '../cni/capabilities.ts'
import { present, quote } from '../cni/json.ts'
import { checkContainerID, checkIfname, checkNetworkName } from '../cni/request.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import type { PlanContext } from '../plan/attach.ts'
import { Attempts } from '../plan/detach.ts'
import { listLiveNetworks, listOwners, readRecord } from '../plan/record.ts'
import { attachContainer, detachContainer } from '../runtime/attachment.ts'
import { DEFAULT_NETWORK, findDefinition } from '../runtime/network-definition.ts'
import type { Attachment, AttachmentName, AttachOptions } from './attachment.ts'

/**
 * Gives a network namespace an interface, an address, a way out and published ports: all, or nothing.
 * @throws TsnetError whose `code` is one of docs/errors.md; then nothing is left of it
 */
export function attachTo(options: AttachOptions, definitionFolder: string, context: PlanContext): Attachment {
  const { netns, containerID, network = DEFAULT_NETWORK, ifname = 'eth0', publish = [], allow = [], ips = [], mac, guard = false } = options
  checkNames({ containerID, network, ifname })
  if (!netns.startsWith('/')) {
    throw new TsnetError('TSNET_NETNS', `Cannot use the network namespace ${quote(netns)}: it is no absolute path`, {
      cniCode: CNI_CODE.invalidNetns,
    })
  }
  const portMappings = parsePublished({ publish, allow })
  const capabilityArgs = present({
    portMappings: portMappings.length > 0 ? portMappings : undefined,
    ips: ips.length > 0 ? ips : undefined,
    mac: mac === undefined ? undefined : parseMac(mac, 'mac'),
  })
  const definition = findDefinition(network, definitionFolder)
  const { record } = attachContainer(definition, { containerID, ifname, netns, capabilityArgs, guard }, context)
  if (record === undefined) throw new TsnetError('TSNET_RECORD', `Cannot read the record of ${quote(containerID)} in network ${quote(network)}`)
  const { mtu, addresses, ports } = record
  return { network, containerID, ifname, netns, mac: record.mac, mtu, addresses, ports }
}

/**
 * Takes away what a container has, complete or not. Nothing there is no failure, and the namespace may be gone.
 * @returns What was taken away.
 * @throws TsnetError with all that could not be; its record then stays, so that another call tries again
 */
export function detachFrom(wanted: AttachmentName, context: PlanContext): readonly Required<AttachmentName>[] {
  checkNames(wanted)
  const { state } = context
  const owners = listLiveNetworks(state)
    .flatMap((network) => listOwners(state, network))
    .filter(
      ({ network, containerID, ifname }) =>
        containerID === wanted.containerID && network === (wanted.network ?? network) && ifname === (wanted.ifname ?? ifname),
    )
  const errors = new Attempts()
  const detached = owners.filter((owner) => errors.try(() => detachContainer(owner, readRecord(state, owner)?.netns.path ?? '', context) ?? true))
  errors.finish(`Cannot detach all of the container ${quote(wanted.containerID)}`)
  return detached.map(({ network, containerID, ifname }) => ({ network, containerID, ifname }))
}

function checkNames({ containerID, network, ifname }: AttachmentName): void {
  checkContainerID(containerID)
  if (network !== undefined) checkNetworkName(network)
  if (ifname !== undefined) checkIfname(ifname)
}
