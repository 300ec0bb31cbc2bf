/** Addresses and routes of a pair whose ends are the only two on their link: the host answers for the whole subnet as its gateway. */
import { ensureAddress, waitForAddress } from '../bridge/address.ts'
import { ensureRoute } from '../bridge/route.ts'
import { removeRoute } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { AF_INET, AF_INET6, RT_SCOPE_LINK } from '../wire/address.ts'
import { addressBits, addressToBytes, formatPrefix, type IpAddress, type IpPrefix, networkAddress, singlePrefix } from '../wire/ip-address.ts'
import { RT_TABLE_MAIN } from '../wire/route.ts'

/** @see include/uapi/linux/rtnetlink.h */
const RT_SCOPE_HOST = 254
/** Stands for every scope in a deletion. */
const RT_SCOPE_NOWHERE = 255

/** An address of the container and the one of the host that its packets go to. */
export interface Hop {
  readonly address: IpPrefix
  readonly gateway: IpAddress
}

/** @param index The end in the container's namespace, which is up and has the addresses. @see containernetworking/plugins plugins/main/ptp/ptp.go, setupContainerVeth */
export function routeThroughHost(container: NetlinkSocket, index: number, hops: readonly Hop[]): void {
  for (const { address, gateway } of hops) {
    const subnet = { address: networkAddress(address), prefixLength: address.prefixLength }
    const source = { source: address.address }
    dropSubnetRoute(container, index, subnet)
    ensureRoute(container, index, { destination: singlePrefix(gateway), ...source, ...(gateway.family === 4 && { scope: RT_SCOPE_LINK }) })
    if (address.prefixLength < addressBits(gateway.family)) ensureRoute(container, index, { destination: subnet, gateway, ...source })
  }
}

/** @param index The host's end. */
export function routeToContainer(host: NetlinkSocket, index: number, hops: readonly Hop[]): void {
  for (const { address, gateway } of hops) {
    ensureAddress(host, index, singlePrefix(gateway))
    waitForAddress(host, gateway)
    ensureRoute(host, index, { destination: singlePrefix(address.address), ...(gateway.family === 4 && { scope: RT_SCOPE_HOST }) })
  }
}

/** The kernel made it with the address: by it the container would look for the subnet's others on the link, where they are not. */
function dropSubnetRoute(container: NetlinkSocket, index: number, subnet: IpPrefix): void {
  removeRoute(container, `delete the route to ${formatPrefix(subnet)}`, {
    family: subnet.address.family === 4 ? AF_INET : AF_INET6,
    destinationLength: subnet.prefixLength,
    table: RT_TABLE_MAIN,
    protocol: 0,
    scope: RT_SCOPE_NOWHERE,
    type: 0,
    attributes: { destination: addressToBytes(subnet.address), outputIndex: index },
  })
}
