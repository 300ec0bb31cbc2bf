/** Type `ipvlan`: an interface with an IP address of its own that shares its master's MAC address. */
import { announceAddresses } from '../chained/container-device.ts'
import { modeOf } from '../chained/device-master.ts'
import { optionalString } from '../cni/json.ts'
import { parseResult } from '../cni/result.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { parseMtu } from './device-config.ts'
import type { PluginRequest } from './plugin.ts'
import { stackedPlugin } from './stacked-plugin.ts'

/** @see include/uapi/linux/if_link.h, enum ipvlan_mode */
const MODES = { l2: 0, l3: 1, l3s: 2 }

export const ipvlan = stackedPlugin({
  type: 'ipvlan',
  ipam: 'required',
  takesPrevious: true,
  parse: (request) => ({ mode: modeOf(MODES, optionalString(request.config.raw, 'mode') || 'l2'), mtu: parseMtu(request) }),
  masterOf: previousInterface,
  link: ({ mode, mtu }) => ({ ...(mtu > 0 && { mtu }), linkinfo: { kind: 'ipvlan', ipvlan: { mode } } }),
  finish: announceAddresses,
  check: ({ mode }, { linkinfo }) => (linkinfo?.ipvlan?.mode === mode ? [] : ['its mode is another']),
})

/**
 * In a chain the master is the one interface that the plugin before has made. CHECK gets the result of the whole chain: there it
 * is the one that ADD has remembered.
 */
function previousInterface({ config, environment }: PluginRequest): string {
  if (config.prevResult === undefined || environment.command !== 'ADD') return ''
  const [only, ...more] = parseResult(config.prevResult, config.cniVersion).interfaces
  if (only !== undefined && only.name !== '' && more.length === 0) return only.name
  throw new TsnetError('TSNET_CONFIG', 'chained master failure. PrevResult lacks a single named interface', { cniCode: CNI_CODE.invalidConfig })
}
