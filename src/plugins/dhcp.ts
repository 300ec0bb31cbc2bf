/** IPAM type `dhcp`: leases of the DHCP servers on the container's own link, which a daemon gets and renews. */
import { resolve } from 'node:path'
import { parseResult, type Result, type ResultRoute } from '../cni/result.ts'
import { parseValidAttachments } from '../cni/valid-attachments.ts'
import type { DhcpLease } from '../dhcp/lease.ts'
import { askDaemon } from '../dhcp-daemon/ask.ts'
import type { Held } from '../dhcp-daemon/protocol.ts'
import { CNI_CODE, describe, TsnetError } from '../error.ts'
import { ownerText } from '../plan/owner.ts'
import { RT_SCOPE_LINK } from '../wire/address.ts'
import { type DhcpConfig, parseDhcpConfig, parseSocketPath } from './dhcp-config.ts'
import { ownerOf, type Plugin, type PluginRequest } from './plugin.ts'
import { refuseResident } from './resident.ts'

const EVERYWHERE = '0.0.0.0/0'
const ON_LINK = '0.0.0.0'

export const dhcp: Plugin = {
  add: (request) => {
    const { environment, config } = patient(request)
    const owner = ownerOf(request)
    const parsed = parseDhcpConfig(config, owner, environment.args)
    using netns = request.context.openNetns(environment.netns)
    const place = { path: resolve(environment.netns), inode: netns.inode }
    const held = askDaemon(parseSocketPath(config), { command: 'acquire', owner, netns: place, wishes: parsed.wishes })
    return resultOf(required(held), parsed)
  },
  del: (request) => {
    const { config, context } = patient(request)
    try {
      askDaemon(parseSocketPath(config), { command: 'release', owner: ownerOf(request) })
    } catch (error) {
      // A lease that is not given back runs out by itself; a DEL that fails would keep everything else of the container.
      if (!(error instanceof TsnetError)) throw error
      context.warn(`The lease of "${ownerText(ownerOf(request))}" is not released: ${describe(error)}`)
    }
  },
  check: (request) => {
    const { config } = patient(request)
    const { lease } = required(askDaemon(parseSocketPath(config), { command: 'check', owner: ownerOf(request) }))
    const expected = config.prevResult === undefined ? undefined : parseResult(config.prevResult, config.cniVersion).ips
    const address = `${lease.address}/${lease.prefixLength}`
    if (expected === undefined || expected.some((ip) => ip.address === address)) return
    throw new TsnetError('TSNET_CHECK', `The lease of "${ownerText(ownerOf(request))}" is ${address}, which prevResult does not name`, {
      cniCode: CNI_CODE.checkFailed,
    })
  },
  gc: (request) => {
    const { config } = patient(request)
    const valid = parseValidAttachments(config.raw)
    // A runtime that names no list at all has not said that nothing is alive.
    if (valid !== undefined) askDaemon(parseSocketPath(config), { command: 'collect', network: config.name, valid })
  },
  status: (request) => {
    const { config } = patient(request)
    try {
      askDaemon(parseSocketPath(config), { command: 'status' })
    } catch (cause) {
      if (!(cause instanceof TsnetError) || cause.cniCode === CNI_CODE.notAvailable) throw cause
      throw new TsnetError('TSNET_NO_DHCP', 'Cannot give addresses: the DHCP daemon does not answer', { cniCode: CNI_CODE.notAvailable, cause })
    }
  },
}

/** @returns What a lease means for the container: addresses, routes, names. */
export function resultOf({ lease, linkMtu }: Held, { priority, withoutGateway }: DhcpConfig): Result {
  const mtu = lease.mtu !== undefined && linkMtu > 0 && lease.mtu < linkMtu ? lease.mtu : undefined
  const more = { ...(priority !== undefined && { priority }), ...(mtu !== undefined && { mtu }) }
  const routes = routesOf(lease).filter(({ dst }) => !withoutGateway || dst !== EVERYWHERE)
  const gateway = routes.find(({ dst, gw }) => dst === EVERYWHERE && gw !== ON_LINK)?.gw
  return {
    interfaces: [],
    ips: [{ address: `${lease.address}/${lease.prefixLength}`, ...(gateway !== undefined && { gateway }) }],
    routes: routes.map((route) => ({ ...route, ...more })),
    dns: {
      ...(lease.nameservers.length > 0 && { nameservers: lease.nameservers }),
      ...(lease.domain !== undefined && { domain: lease.domain }),
      ...(lease.search.length > 0 && { search: lease.search }),
    },
  }
}

/** Where there are classless routes, neither static routes nor routers count. @see RFC 3442, "DHCP Client Behavior" */
function routesOf({ classlessRoutes, staticRoutes, routers }: DhcpLease): readonly ResultRoute[] {
  const offered = classlessRoutes ?? [...staticRoutes, ...routers.slice(0, 1).map((gateway) => ({ destination: EVERYWHERE, gateway }))]
  return offered.map(({ destination, gateway }) => ({ dst: destination, gw: gateway, ...(gateway === ON_LINK && { scope: RT_SCOPE_LINK }) }))
}

/** A server may take minutes to answer: that is nothing for the process that serves everybody. */
function patient(request: PluginRequest): PluginRequest {
  refuseResident(request.context, 'a DHCP server')
  return request
}

function required(held: Held | undefined): Held {
  if (held === undefined) throw new TsnetError('TSNET_PROTOCOL', 'Cannot understand the DHCP daemon: its answer names no lease')
  return held
}
