/** Type `dummy`: an interface that swallows what is sent: addresses that are the container's whatever happens to its networks. */
import { createDevice, deleteDevice, ensureLinkKind } from '../chained/container-device.ts'
import { IFF_UP } from '../wire/link.ts'
import { devicePlugin } from './device-plugin.ts'

const KIND = 'dummy'

export const dummy = devicePlugin<null, null>({
  type: 'dummy',
  ipam: 'required',
  parse: () => null,
  plan: () => null,
  make: (_config, _memory, site) => createDevice(site, { linkinfo: { kind: KIND } }, false),
  unmake: ({ owner, container }) => void (container && deleteDevice(container, owner, KIND)),
  check: (_config, { link }) => [...(link.linkinfo?.kind === KIND ? [] : ['it is no dummy']), ...((link.flags & IFF_UP) !== 0 ? [] : ['it is down'])],
  status: (_config, host) => ensureLinkKind(host, KIND),
})
