/** The VLANs of a bridge's port. */
import { addPortVlans, listPortVlans, removePortVlans } from '../netlink/bridge-vlan.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { PortVlan } from '../wire/bridge-vlan.ts'

/** The kernel makes every new port a member of it, and it is the port's own. @see ip-link(8), vlan_default_pvid */
const DEFAULT_VLAN = 1

export interface PortVlans {
  /** The port's own: frames of the container have no tag. Undefined: it is the default one. */
  readonly native: number | undefined
  /** Whose frames keep their tag. */
  readonly tagged: readonly PortVlan[]
  /** Whether the port stays a member of the default VLAN beside `native`. */
  readonly keepDefault: boolean
}

/** @param index Of a port that has just come to its bridge. @throws KernelError EOPNOTSUPP on a kernel without VLANs on bridges */
export function setPortVlans(rt: NetlinkSocket, index: number, vlans: PortVlans): void {
  if (dropsDefault(vlans)) removePortVlans(rt, index, [single(DEFAULT_VLAN)])
  addPortVlans(rt, index, membershipsOf(vlans))
}

/** @returns The VLANs that the port should be in and is not, or not in that way; and the default one, if it should not be in it. */
export function wrongPortVlans(rt: NetlinkSocket, index: number, vlans: PortVlans): readonly number[] {
  const present = new Map((listPortVlans(rt).get(index) ?? []).flatMap((range) => idsOf(range).map((id) => [id, range] as const)))
  const wrong = membershipsOf(vlans).flatMap((wanted) =>
    idsOf(wanted).filter((id) => present.get(id)?.pvid !== wanted.pvid || present.get(id)?.untagged !== wanted.untagged),
  )
  return [...wrong, ...(dropsDefault(vlans) && present.has(DEFAULT_VLAN) ? [DEFAULT_VLAN] : [])]
}

/** @returns The indexes of the ports whose own VLAN it is. */
export function portsOfVlan(rt: NetlinkSocket, id: number): readonly number[] {
  return [...listPortVlans(rt)].filter(([, vlans]) => vlans.some(({ pvid, first }) => pvid && first === id)).map(([index]) => index)
}

/** In the order in which the kernel takes them: the last word on a VLAN counts. */
function membershipsOf({ native, tagged }: PortVlans): readonly PortVlan[] {
  const id = native ?? DEFAULT_VLAN
  return [...tagged.flatMap((range) => without(range, id)), { ...single(id), pvid: true, untagged: true }]
}

function dropsDefault({ native, tagged, keepDefault }: PortVlans): boolean {
  return native !== undefined && native !== DEFAULT_VLAN && !keepDefault && !tagged.some(({ first }) => first === DEFAULT_VLAN)
}

function without(range: PortVlan, id: number): readonly PortVlan[] {
  if (id < range.first || id > range.last) return [range]
  const parts = [
    { ...range, last: id - 1 },
    { ...range, first: id + 1 },
  ]
  return parts.filter(({ first, last }) => first <= last)
}

function single(id: number): PortVlan {
  return { first: id, last: id, pvid: false, untagged: false }
}

function idsOf({ first, last }: PortVlan): readonly number[] {
  return Array.from({ length: last - first + 1 }, (_, more) => first + more)
}
