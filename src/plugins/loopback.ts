/** Type `loopback`: containerd's CRI runs it for every pod. It sets lo up; DEL leaves it, since lo goes with the namespace. */
import { parseResult } from '../cni/result.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { changeLink, findLink, openRtnetlink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { within } from '../sys/netns.ts'
import { IFF_UP } from '../wire/link.ts'
import type { Plugin, PluginRequest } from './plugin.ts'

export const loopback: Plugin = {
  add: (request) => {
    using rt = openLoopback(request)
    changeLink(rt, 'set the loopback interface up', { id: 'lo', up: true })
    const { prevResult, cniVersion } = request.config
    if (prevResult !== undefined) return parseResult(prevResult, cniVersion)
    return {
      interfaces: [{ name: 'lo', mac: '00:00:00:00:00:00', sandbox: request.environment.netns }],
      ips: [
        { interface: 0, address: '127.0.0.1/8' },
        { interface: 0, address: '::1/128' },
      ],
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

function openLoopback(request: PluginRequest): NetlinkSocket {
  using netns = request.context.openNetns(request.environment.netns)
  return within(netns, openRtnetlink)
}
