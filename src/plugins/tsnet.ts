/** Type `tsnet`: bridge, addresses, masquerading and published ports in one process. */
import { existsSync } from 'node:fs'
import { requestedAddresses, requestedMac } from '../cni/capabilities.ts'
import { parseCniArgs } from '../cni/cni-args.ts'
import { parsePortMappings } from '../cni/port-mapping.ts'
import { parseResult, type Result, type ResultDns } from '../cni/result.ts'
import { parseValidAttachments } from '../cni/valid-attachments.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { openExistingSubnet } from '../ipam/open-subnet.ts'
import { formatRangeSet, slotCount } from '../ipam/range.ts'
import { ensureGuardAvailable } from '../nat/source-guard/guard.ts'
import { attach } from '../plan/attach.ts'
import { chooseBackend, withBackend } from '../plan/backend.ts'
import { check } from '../plan/check.ts'
import { detach } from '../plan/detach.ts'
import { collectGarbage } from '../plan/gc.ts'
import { readNetwork } from '../plan/network.ts'
import { afterReclaim } from '../plan/reclaim.ts'
import type { AttachmentRecord } from '../plan/record.ts'
import { lockNetwork, networkFolder, type StateFolder } from '../plan/state-folder.ts'
import { containsAddress } from '../wire/ip-address.ts'
import { parseBandwidth } from './bandwidth-config.ts'
import { ownerOf, type Plugin, type PluginRequest } from './plugin.ts'
import { parseTsnetConfig } from './tsnet-config.ts'
import { linkSettings, parseSysctls } from './tuning-config.ts'

export const tsnet: Plugin = {
  add: (request) => {
    const { environment, config, context } = request
    const wishes = { ...config, cniArgs: parseCniArgs(environment.args) }
    const { network, routes, dns } = parseTsnetConfig(config)
    const previous = config.prevResult === undefined ? undefined : parseResult(config.prevResult, config.cniVersion)
    const mac = requestedMac(wishes)
    const record = attach(
      {
        containerID: environment.containerID,
        ifname: environment.ifname,
        netns: environment.netns,
        ownNetnsAllowed: environment.netnsOverride,
        network,
        ...(mac !== undefined && { mac }),
        addresses: requestedAddresses(wishes),
        routes,
        ports: parsePortMappings(config.runtimeConfig),
        ...parseTuning(request),
      },
      context,
    )
    return resultOf(record, dns, previous)
  },
  del: (request) => void detach(ownerOf(request), request.context),
  check: (request) => {
    if (request.config.prevResult === undefined)
      throw new TsnetError('TSNET_CONFIG', 'Cannot check: the configuration holds no prevResult', { cniCode: CNI_CODE.invalidConfig })
    check(ownerOf(request), request.environment.netns, request.context)
  },
  gc: ({ config, context }) => {
    const valid = parseValidAttachments(config.raw)
    // A runtime that names no list at all has not said that nothing is alive.
    if (valid !== undefined) collectGarbage(config.name, valid, context)
  },
  status: ({ config, context }) => {
    const { network } = parseTsnetConfig(config)
    withBackend(context, chooseBackend(network, readNetwork(context.state, config.name), context)).backend.ensureAvailable(
      network.rangeSets.length === 0 ? [4] : [...new Set(network.rangeSets.flat().map(({ subnet }) => subnet.address.family))],
    )
    if (network.sourceGuard) ensureGuardAvailable()
    // A runtime sends no ADD to a plugin that says it is full, so the addresses of the dead are looked for here already.
    afterReclaim(() => refuseFullPool(config.name, network.rangeSets, context.state), context)
  },
}

/** @returns What the plugins bandwidth and tuning would be asked for, by the same keys; MAC and MTU are the network's own. */
function parseTuning(request: PluginRequest) {
  const { config } = request
  const limits = parseBandwidth(config)
  const sysctls = parseSysctls(request)
  const { mac: _, mtu: __, ...settings } = { ...linkSettings(config.raw, ''), ...linkSettings(config.args, 'args.cni.') }
  return {
    ...(Object.keys(limits).length > 0 && { limits }),
    ...(sysctls.length > 0 && { sysctls }),
    ...(Object.keys(settings).length > 0 && { settings }),
  }
}

/** @returns What the record says, after what plugins before this one have made. */
export function resultOf(record: AttachmentRecord, dns: ResultDns, previous?: Result): Result {
  const first = previous?.interfaces.length ?? 0
  const { mtu } = record
  const interfaces = [
    { name: record.bridge, mac: record.bridgeMac },
    { name: record.hostVeth, mac: record.hostMac, mtu },
    { name: record.ifname, mac: record.mac, mtu, sandbox: record.netns.path },
  ]
  const ips = record.addresses.map(({ address, gateway }) => ({ interface: first + 2, address, ...(gateway !== undefined && { gateway }) }))
  return {
    interfaces: [...(previous?.interfaces ?? []), ...interfaces],
    ips: [...(previous?.ips ?? []), ...ips],
    routes: [...(previous?.routes ?? []), ...record.routes],
    dns: Object.keys(dns).length > 0 ? dns : (previous?.dns ?? {}),
  }
}

/** @throws TsnetError with CNI code 50 when some range set has no address left */
function refuseFullPool(name: string, rangeSets: ReturnType<typeof parseTsnetConfig>['network']['rangeSets'], state: StateFolder): void {
  const folder = networkFolder(state, name)
  // A file that somebody edited is put in line when it is read.
  using _lock = existsSync(folder) ? lockNetwork(state, name) : undefined
  using store = openExistingSubnet(folder)
  if (store === undefined) return
  const leases = store.leases()
  const full = rangeSets.find((set) => {
    const taken = leases.filter(({ address }) => set.some(({ subnet }) => containsAddress(subnet, address))).length
    return BigInt(taken) >= set.reduce((sum, range) => sum + slotCount(range), 0n)
  })
  if (full !== undefined) throw new TsnetError('TSNET_POOL_FULL', `No address is free in ${formatRangeSet(full)}`, { cniCode: CNI_CODE.notAvailable })
}
