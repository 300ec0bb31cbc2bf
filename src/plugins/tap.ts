/** Type `tap`: an interface whose other end is a program, such as a virtual machine. */
import { macToBytes } from '../bridge/mac.ts'
import { announceAddresses, deleteDevice } from '../chained/container-device.ts'
import { ensureTap, makeTapDevice } from '../chained/tap-device.ts'
import { invalidField, optionalBoolean, optionalInteger, optionalString, present } from '../cni/json.ts'
import { parseLinkName, parseMtu, parseWantedMac } from './device-config.ts'
import { devicePlugin } from './device-plugin.ts'
import type { PluginRequest } from './plugin.ts'

/** What the kernel calls it. */
const KIND = 'tun'
/** The last number means nobody. */
const LARGEST_ID = 0xfffffffe
const LONGEST_CONTEXT = 4095

export const tap = devicePlugin({
  type: 'tap',
  ipam: 'optional',
  parse: (request) => {
    const { raw } = request.config
    const mac = parseWantedMac(request)
    return present({
      multiQueue: optionalBoolean(raw, 'multiQueue') ?? false,
      owner: optionalInteger(raw, 'owner', { min: 0, max: LARGEST_ID }),
      group: optionalInteger(raw, 'group', { min: 0, max: LARGEST_ID }),
      mtu: parseMtu(request),
      mac: mac === undefined ? undefined : macToBytes(mac),
      bridge: parseLinkName(request, 'bridge'),
      selinuxContext: parseContext(request),
    })
  },
  plan: () => null,
  make: (config, _memory, site) => {
    makeTapDevice(site, config)
    announceAddresses(site.netns, site.owner.ifname)
  },
  unmake: ({ owner, container }) => void (container && deleteDevice(container, owner, KIND)),
  check: (_config, { link }) => (link.linkinfo?.kind === KIND ? [] : ['it is no TAP interface']),
  status: () => ensureTap(),
})

function parseContext({ config }: PluginRequest): string {
  const context = optionalString(config.raw, 'selinuxContext') ?? ''
  if (/^[\x21-\x7e]*$/.test(context) && context.length <= LONGEST_CONTEXT) return context
  throw invalidField('selinuxContext', context, 'a SELinux context')
}
