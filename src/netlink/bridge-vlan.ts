/** The verbs of rtnetlink on the VLANs of bridge ports. @see bridge(8), "bridge vlan" */
import { decodePortVlans, encodePortVlans, encodeVlanDump, type PortVlan, RTM_SETLINK } from '../wire/bridge-vlan.ts'
import { RTM_DELLINK, RTM_GETLINK } from '../wire/link.ts'
import type { NetlinkSocket } from './socket.ts'

/** @param index The port's. @throws KernelError EOPNOTSUPP on a kernel without VLANs on bridges */
export function addPortVlans(rt: NetlinkSocket, index: number, vlans: readonly PortVlan[]): void {
  rt.execute({ operation: 'make the bridge port a member of VLANs', type: RTM_SETLINK, body: (w) => encodePortVlans(w, index, vlans) })
}

/** Those that it is no member of are no error. */
export function removePortVlans(rt: NetlinkSocket, index: number, vlans: readonly PortVlan[]): void {
  rt.execute({ operation: 'take the bridge port out of VLANs', type: RTM_DELLINK, body: (w) => encodePortVlans(w, index, vlans) })
}

/** @returns The VLANs of every port and bridge, by index. */
export function listPortVlans(rt: NetlinkSocket): ReadonlyMap<number, readonly PortVlan[]> {
  const request = { operation: 'list the VLANs of the bridge ports', type: RTM_GETLINK, body: encodeVlanDump }
  return new Map(rt.dump(request, (message) => decodePortVlans(message.body)).map(({ index, vlans }) => [index, vlans]))
}
