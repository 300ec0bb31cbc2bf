/** Type `loopback`: containerd's CRI runs it for every pod. It sets lo up; DEL leaves it, since lo goes with the namespace. */
import { addressesOf } from '../bridge/address.ts'
import { openContainerNetns } from '../chained/container-netns.ts'
import { parseResult } from '../cni/result.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { changeLink, findLink, openRtnetlink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { within } from '../sys/netns.ts'
import { formatAddress, formatPrefix, type IpAddress } from '../wire/ip-address.ts'
import { IFF_UP } from '../wire/link.ts'
import type { Plugin, PluginRequest } from './plugin.ts'

/** lo is the first interface of every namespace. @see include/net/net_namespace.h, LOOPBACK_IFINDEX */
const INDEX = 1

export const loopback: Plugin = {
  add: (request) => {
    using rt = openLoopback(request)
    const foreign = addressesOf(rt, INDEX).find(({ address }) => !isLoopback(address))
    if (foreign !== undefined) {
      throw new TsnetError('TSNET_LOOPBACK', `loopback interface found with non-loopback address "${formatAddress(foreign.address)}"`)
    }
    changeLink(rt, 'set the loopback interface up', { id: 'lo', up: true })
    const { prevResult, cniVersion } = request.config
    if (prevResult !== undefined) return parseResult(prevResult, cniVersion)
    return {
      interfaces: [{ name: 'lo', mac: '00:00:00:00:00:00', sandbox: request.environment.netns }],
      ips: addressesOf(rt, INDEX).map((prefix) => ({ interface: 0, address: formatPrefix(prefix) })),
      routes: [],
      dns: {},
    }
  },
  del: () => {},
  check: (request) => {
    using rt = openLoopback(request)
    if (((findLink(rt, 'lo')?.flags ?? 0) & IFF_UP) === 0)
      throw new TsnetError('TSNET_CHECK', 'The loopback interface is down', { cniCode: CNI_CODE.checkFailed })
  },
  gc: () => {},
  status: () => {},
}

function isLoopback({ family, value }: IpAddress): boolean {
  return family === 4 ? value >> 24n === 127n : value === 1n
}

function openLoopback({ environment, context }: PluginRequest): NetlinkSocket {
  using netns = openContainerNetns(environment, context)
  return within(netns, openRtnetlink)
}
