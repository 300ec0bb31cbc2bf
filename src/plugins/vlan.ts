/** Type `vlan`: an interface that sends and receives the frames of one VLAN of its master. */
import { refuseLargerMtu } from '../chained/device-master.ts'
import { field } from '../cni/json.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { parseLinkName, parseMtu } from './device-config.ts'
import type { PluginRequest } from './plugin.ts'
import { stackedPlugin } from './stacked-plugin.ts'

const LARGEST_ID = 4094

export const vlan = stackedPlugin({
  type: 'vlan',
  ipam: 'required',
  parse: (request) => {
    if (parseLinkName(request, 'master') === '')
      throw invalid('"master" field is required. It specifies the host interface name to create the VLAN for.')
    return { id: parseId(request), mtu: parseMtu(request) }
  },
  link: ({ id, mtu }, master) => {
    refuseLargerMtu(mtu, master)
    return { ...(mtu > 0 && { mtu }), linkinfo: { kind: 'vlan', vlan: { id } } }
  },
  check: ({ id, mtu }, { linkinfo, mtu: present }) => [
    ...(linkinfo?.vlan?.id === id ? [] : [`its VLAN is ${linkinfo?.vlan?.id}, not ${id}`]),
    ...(mtu === 0 || present === mtu ? [] : [`its MTU is ${present}, not ${mtu}`]),
  ],
})

function parseId({ config }: PluginRequest): number {
  const id = field(config.raw, 'vlanId') ?? 0
  if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id <= LARGEST_ID) return id
  throw invalid(`invalid VLAN ID ${typeof id === 'number' ? id : ''} (must be between 0 and ${LARGEST_ID} inclusive)`)
}

function invalid(message: string): TsnetError {
  return new TsnetError('TSNET_CONFIG', message, { cniCode: CNI_CODE.invalidConfig })
}
