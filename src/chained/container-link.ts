/** The interface in the container that a plugin of a chain has made: its addresses and routes, as IPAM says. */
import { addressesOf } from '../bridge/address.ts'
import { ensureFirstRoute } from '../bridge/route.ts'
import type { Result, ResultRoute } from '../cni/result.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { addAddress, changeLink, findLink, listAddresses, requireLink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { type Netns, within } from '../sys/netns.ts'
import { ensureSysctl } from '../sys/sysctl.ts'
import { now, sleep } from '../sys/time.ts'
import { AF_INET, AF_INET6, RT_SCOPE_UNIVERSE } from '../wire/address.ts'
import { addressToBytes, formatPrefix, type IpPrefix, lastAddress, parseAddress, parsePrefix } from '../wire/ip-address.ts'

/** @see include/uapi/linux/if_addr.h */
const IFA_F_DADFAILED = 0x08
const IFA_F_TENTATIVE = 0x40
/** @see include/uapi/linux/if.h, IF_OPER_UP */
const OPERATIONAL = 6
const DAD_TIMEOUT_MS = 5000
const DAD_POLL_MS = 50

export interface ContainerLink {
  /** A socket in the container's namespace. */
  readonly rt: NetlinkSocket
  readonly netns: Netns
  readonly name: string
}

/**
 * Gives the interface its addresses, sets it up, waits for duplicate address detection where a gateway of IPv6 needs it, and
 * adds the routes; one without a gateway of its own goes by the first gateway of its family.
 * @param result Of IPAM: all its addresses are for this interface.
 * @throws TsnetError TSNET_ADDRESS_TAKEN when the network has an IPv6 address already; KernelError
 * @see containernetworking/plugins pkg/ipam/ipam_linux.go, ConfigureIface
 */
export function configureLink(link: ContainerLink, result: Pick<Result, 'ips' | 'routes'>): void {
  const { rt, netns, name } = link
  const { index } = requireLink(rt, name)
  const prefixes = result.ips.map(({ address }) => prefixOf(address))
  if (prefixes.some(({ address }) => address.family === 6)) within(netns, () => turnIpv6On(name))
  for (const prefix of prefixes) addAddress(rt, `add the address ${formatPrefix(prefix)} to "${name}"`, kernelAddress(index, prefix))
  changeLink(rt, `set "${name}" up`, { id: index, up: true })
  const gateways = result.ips.flatMap(({ gateway }) => (gateway === undefined ? [] : (parseAddress(gateway) ?? [])))
  if (gateways.some(({ family }) => family === 6)) settleAddresses(link, index)
  for (const route of result.routes) ensureFirstRoute(rt, index, routeOptions(route, gateways))
}

/** @returns The addresses that a result names and the link has not. */
export function missingAddresses({ rt, name }: ContainerLink, ips: Result['ips']): readonly string[] {
  const index = findLink(rt, name)?.index
  const present = index === undefined ? [] : addressesOf(rt, index).map(formatPrefix)
  return ips.map(({ address }) => formatPrefix(prefixOf(address))).filter((address) => !present.includes(address))
}

function turnIpv6On(name: string): void {
  for (const link of ['lo', name]) ensureSysctl(`net/ipv6/conf/${link}/disable_ipv6`, '0')
  ensureSysctl(`net/ipv6/conf/${name}/keep_addr_on_down`, '1')
}

/** A link that carries nothing detects no duplicates either. */
function settleAddresses({ rt, name }: ContainerLink, index: number): void {
  for (const deadline = now() + DAD_TIMEOUT_MS; ; sleep(DAD_POLL_MS)) {
    const addresses = listAddresses(rt, index).filter(({ family }) => family === AF_INET6)
    if (addresses.some(({ flags }) => (flags & IFA_F_DADFAILED) !== 0)) {
      throw new TsnetError('TSNET_ADDRESS_TAKEN', `Cannot use an IPv6 address of "${name}": another machine of the network has it`, {
        cniCode: CNI_CODE.addressTaken,
      })
    }
    if (addresses.every(({ flags }) => (flags & IFA_F_TENTATIVE) === 0)) return
    if (now() < deadline) continue
    if (findLink(rt, index)?.operstate !== OPERATIONAL) return
    throw new TsnetError('TSNET_TIMEOUT', `Cannot wait for the IPv6 addresses of "${name}" any longer: they are still tentative`, {
      cniCode: CNI_CODE.tryAgain,
    })
  }
}

function routeOptions({ dst, gw, ...rest }: ResultRoute, gateways: readonly { readonly family: 4 | 6; readonly value: bigint }[]) {
  const destination = prefixOf(dst)
  const gateway = gw === undefined ? gateways.find(({ family }) => family === destination.address.family) : parseAddress(gw)
  return { destination, ...(gateway !== undefined && { gateway }), ...rest }
}

/** A result's addresses have been checked when it was parsed. */
function prefixOf(text: string): IpPrefix {
  const prefix = parsePrefix(text)
  if (prefix === undefined) throw new TsnetError('TSNET_RESULT', `Cannot use "${text}": it is no address with a prefix length`)
  return prefix
}

function kernelAddress(index: number, { address, prefixLength }: IpPrefix) {
  const bytes = addressToBytes(address)
  const header = { index, prefixLength, flags: 0, scope: RT_SCOPE_UNIVERSE, local: bytes, address: bytes }
  if (address.family === 6) return { ...header, family: AF_INET6 }
  return { ...header, family: AF_INET, ...(prefixLength < 31 && { broadcast: addressToBytes(lastAddress({ address, prefixLength })) }) }
}
