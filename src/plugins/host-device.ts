/** Type `host-device`: an interface of the host's goes into the container, and comes back. */
import { macToText } from '../bridge/mac.ts'
import { describeDevice, type LentDevice, lendDevice, returnDevice } from '../chained/host-device.ts'
import { field } from '../cni/json.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { findLink, listLinks, type ObservedLink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { interfacesOfDevice } from '../sys/device-tree.ts'
import { devicePlugin } from './device-plugin.ts'
import { type DeviceChoice, type HostDeviceConfig, parseHostDevice } from './host-device-config.ts'

/** Nothing was lent: the device has no interface. */
const NONE: LentDevice = { name: '', alias: '', kind: '', up: false }

export const hostDevice = devicePlugin<HostDeviceConfig, LentDevice>({
  type: 'host-device',
  ipam: 'optional',
  parse: parseHostDevice,
  isLinkless: ({ usesUserspaceDriver }) => usesUserspaceDriver,
  plan: ({ choice, usesUserspaceDriver }, { host }) => (usesUserspaceDriver ? NONE : describeDevice(findDevice(host, choice))),
  make: (_config, device, site) => lendDevice(site, device),
  recall: (raw) => {
    const name = field(raw, 'device')
    return typeof name === 'string' && name !== '' ? { name, alias: '', up: false } : undefined
  },
  unmake: ({ memory, ...lent }) => {
    if (memory?.name !== '') returnDevice(lent, memory)
  },
  check: () => [],
  describe: ({ pciID }) => (pciID === undefined ? {} : { pciID }),
  // A device that is with a container is no reason to call the plugin unready.
  status: () => {},
})

function findDevice(host: NetlinkSocket, choice: DeviceChoice): ObservedLink {
  const found = lookUp(host, choice)
  if (found !== undefined) return found
  throw new TsnetError('TSNET_NO_DEVICE', `Cannot find the host's interface: there is none ${choice.words}`, { cniCode: CNI_CODE.invalidConfig })
}

function lookUp(host: NetlinkSocket, choice: DeviceChoice): ObservedLink | undefined {
  switch (choice.by) {
    case 'name':
      return findLink(host, choice.name)
    case 'mac':
      return listLinks(host).find(({ address }) => address !== undefined && macToText(address) === choice.mac)
    case 'device':
      return interfacesOfDevice(choice.path)
        .flatMap((name) => findLink(host, name) ?? [])
        .at(0)
  }
}
