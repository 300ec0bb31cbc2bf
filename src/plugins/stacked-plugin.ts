/** Types whose interface stands on another one, its master: macvlan, ipvlan, vlan. */
import { createDevice, deleteDevice, ensureLinkKind } from '../chained/container-device.ts'
import { findMaster, lookUpMaster } from '../chained/device-master.ts'
import { optionalBoolean } from '../cni/json.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import type { ObservedLink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { Netns } from '../sys/netns.ts'
import type { Link } from '../wire/link.ts'
import { parseLinkName } from './device-config.ts'
import { devicePlugin } from './device-plugin.ts'
import type { DeviceType } from './device-type.ts'
import type { Plugin, PluginRequest } from './plugin.ts'

/** What one of these types is beside its master. */
export interface StackedType<C> {
  /** The plugin type, and the kernel's name of the kind. */
  readonly type: 'macvlan' | 'ipvlan' | 'vlan'
  readonly ipam: 'required' | 'optional'
  readonly takesPrevious?: boolean
  /** @throws TsnetError TSNET_CONFIG, CNI code 7 */
  parse(request: PluginRequest): C
  /** @returns The name of the master where the configuration says none; empty for that of the default route */
  masterOf?(request: PluginRequest): string
  /** @returns The interface to create, without name and master. @throws TsnetError TSNET_CONFIG, CNI code 7, for what the master does not allow */
  link(config: C, master: ObservedLink): Link
  /** Says what the type wants said inside the namespace once the interface is there. */
  finish?(netns: Netns, ifname: string): void
  /** @returns In what the interface is not as configured, in words */
  check(config: C, link: ObservedLink): readonly string[]
}

interface Stacked<C> {
  readonly own: C
  /** Empty: that of the default route. */
  readonly master: string
  readonly linkInContainer: boolean
}

/** What an attachment is remembered by. */
interface Memory {
  readonly master: string
}

/** @returns The plugin of one type. */
export function stackedPlugin<C>(type: StackedType<C>): Plugin {
  return devicePlugin<Stacked<C>, Memory>(deviceType(type))
}

function deviceType<C>(type: StackedType<C>): DeviceType<Stacked<C>, Memory> {
  const kind = type.type
  const { ipam, takesPrevious = false } = type
  const place = <T>({ linkInContainer }: Stacked<C>, { host, container }: { readonly host: T; readonly container: T }) =>
    linkInContainer ? container : host
  return {
    type: kind,
    ipam,
    takesPrevious,
    parse: (request) => ({
      own: type.parse(request),
      master: parseLinkName(request, 'master') || (type.masterOf?.(request) ?? ''),
      linkInContainer: optionalBoolean(request.config.raw, 'linkInContainer') ?? false,
    }),
    plan: (config, sockets) => {
      const master = findMaster(place(config, sockets), config.master)
      type.link(config.own, master)
      return { master: master.ifname ?? '' }
    },
    make: (config, memory, site) => {
      const master = findMaster(place(config, site), memory.master)
      createDevice(site, { linkIndex: master.index, ...type.link(config.own, master) }, config.linkInContainer)
      type.finish?.(site.netns, site.owner.ifname)
    },
    unmake: ({ owner, container }) => void (container && deleteDevice(container, owner, kind)),
    check: (config, { link, host, container, memory }) => {
      if (link.linkinfo?.kind !== kind) return [`it is no ${kind}`]
      const name = config.master || (memory?.master ?? '')
      return [...misplaced(link, place(config, { host, container }), name), ...type.check(config.own, link)]
    },
    status: (config, host) => {
      ensureLinkKind(host, kind)
      if (!config.linkInContainer) requireMaster(host, config.master)
    },
  }
}

/** @param name Empty where nobody has said it: the default route may have been another one then. */
function misplaced(link: ObservedLink, rt: NetlinkSocket, name: string): readonly string[] {
  const master = name === '' ? undefined : lookUpMaster(rt, name)
  if (name !== '' && master === undefined) return [`its master "${name}" is gone`]
  return master === undefined || link.linkIndex === master.index ? [] : [`it does not stand on "${name}"`]
}

/** For STATUS the absence is no fault of the configuration: the interface may come. */
function requireMaster(host: NetlinkSocket, name: string): void {
  try {
    findMaster(host, name)
  } catch (error) {
    if (!(error instanceof TsnetError && error.code === 'TSNET_MASTER')) throw error
    throw new TsnetError(error.code, error.message, { cniCode: CNI_CODE.notAvailable, cause: error })
  }
}
