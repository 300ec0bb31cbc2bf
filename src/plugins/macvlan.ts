/** Type `macvlan`: an interface with a MAC address of its own on one of the host's. */
import { macToBytes } from '../bridge/mac.ts'
import { announceAddresses } from '../chained/container-device.ts'
import { modeOf, refuseLargerMtu } from '../chained/device-master.ts'
import { optionalInteger, optionalString } from '../cni/json.ts'
import { parseMtu, parseWantedMac } from './device-config.ts'
import { stackedPlugin } from './stacked-plugin.ts'

/** @see include/uapi/linux/if_link.h, enum macvlan_mode */
const MODES = { bridge: 4, private: 1, vepa: 2, passthru: 8 }

export const macvlan = stackedPlugin({
  type: 'macvlan',
  ipam: 'optional',
  parse: (request) => ({
    mode: modeOf(MODES, optionalString(request.config.raw, 'mode') || 'bridge'),
    mtu: parseMtu(request),
    mac: parseWantedMac(request),
    broadcastQueueLength: optionalInteger(request.config.raw, 'bcqueuelen', { min: 0, max: 0xffffffff }) ?? 0,
  }),
  link: ({ mode, mtu, mac, broadcastQueueLength }, master) => {
    refuseLargerMtu(mtu, master)
    return {
      ...(mtu > 0 && { mtu }),
      ...(mac !== undefined && { address: macToBytes(mac) }),
      linkinfo: { kind: 'macvlan', macvlan: { mode, ...(broadcastQueueLength > 0 && { broadcastQueueLength }) } },
    }
  },
  finish: announceAddresses,
  check: ({ mode }, { linkinfo }) => (linkinfo?.macvlan?.mode === mode ? [] : ['its mode is another']),
})
