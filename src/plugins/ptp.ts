/** Type `ptp`: each container is alone on a link with the host, which routes. */
import { addressesOf } from '../bridge/address.ts'
import { macToBytes, macToText, randomMac } from '../bridge/mac.ts'
import { routesOf } from '../bridge/route.ts'
import { configureLink } from '../chained/container-link.ts'
import { ensureForwarding } from '../chained/forwarding.ts'
import { type Hop, routeThroughHost, routeToContainer } from '../chained/point-to-point.ts'
import { requestedMac } from '../cni/capabilities.ts'
import type { Result } from '../cni/result.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { requireLink } from '../netlink/rtnetlink.ts'
import { within } from '../sys/netns.ts'
import { ensureSysctl } from '../sys/sysctl.ts'
import { formatPrefix, parseAddress, parsePrefix, singlePrefix } from '../wire/ip-address.ts'
import { type Ipam, ipamOf } from './ipam.ts'
import type { Plugin, PluginRequest } from './plugin.ts'
import {
  addVeth,
  collectVeths,
  connectPair,
  delVeth,
  ETHERNET_MTU,
  lease,
  masquerade,
  tellable,
  type VethSite,
  type VethType,
} from './veth-attachment.ts'
import { type CheckedVeth, checkVeth } from './veth-check.ts'
import { parseVethConfig, type VethConfig } from './veth-config.ts'
import { vethStatus } from './veth-status.ts'

/** The container's end in a result's interfaces: host's end, container's end. */
const CONTAINER = 1

export const ptp: Plugin = {
  add: (request) => {
    const ipam = requiredIpam(request)
    const config = parseVethConfig(request.config.raw)
    const mac = requestedMac(request.config)
    return addVeth(PTP, request, (site) => connect(site, { ...config, mac: mac === undefined ? randomMac() : macToBytes(mac) }, ipam))
  },
  del: (request) => delVeth(PTP, request),
  check: (request) => checkVeth(request, parseVethConfig(request.config.raw), hostProblems),
  gc: (request) => collectVeths(PTP, request),
  status: (request) => {
    requiredIpam(request)
    vethStatus(request, parseVethConfig(request.config.raw))
  },
}

const PTP: VethType = { name: 'ptp', mayHaveMade: ({ master }) => master === undefined, disconnect: () => {} }

/** Forwarding comes last: it is the host's, and need not be taken back. */
function connect(site: VethSite, config: VethConfig & { readonly mac: Uint8Array }, ipam: Ipam): Result {
  const { container, host, netns, owner, request } = site
  const { mtu = ETHERNET_MTU, mac } = config
  const end = connectPair(site, { mac, ...(config.mtu !== undefined && { mtu }) })
  const leased = lease(site, ipam)
  const hops = hopsOf(leased)
  // Two are on the link, and both are known: what they need is there at once, without detection of duplicates.
  ensureSysctl(`net/ipv6/conf/${end.name}/accept_dad`, '0')
  within(netns, () => ensureSysctl(`net/ipv6/conf/${owner.ifname}/accept_dad`, '0'))
  configureLink({ rt: container, netns, name: owner.ifname }, leased)
  routeThroughHost(container, requireLink(container, owner.ifname).index, hops)
  routeToContainer(host, requireLink(host, end.name).index, hops)
  masquerade(site, config, leased)
  const interfaces = [
    { name: end.name, mac: end.mac, mtu },
    { name: owner.ifname, mac: macToText(mac), mtu, sandbox: netns.path },
  ]
  const result = { ...leased, interfaces, ips: leased.ips.map((ip) => ({ interface: CONTAINER, ...ip })) }
  const told = tellable(result, config, request)
  ensureForwarding(
    host,
    hops.map(({ gateway }) => gateway.family),
  )
  return told
}

/** @throws TsnetError TSNET_RESULT, CNI code 7, for an address without a gateway */
function hopsOf({ ips }: Pick<Result, 'ips'>): readonly Hop[] {
  return ips.map(({ address, gateway = '' }) => {
    const [prefix, parsed] = [parsePrefix(address), parseAddress(gateway)]
    if (prefix !== undefined && parsed !== undefined) return { address: prefix, gateway: parsed }
    throw new TsnetError('TSNET_RESULT', `Cannot attach: IPAM gave "${address}" without a gateway`, {
      cniCode: CNI_CODE.invalidConfig,
      hint: 'Name a gateway in "ipam"',
    })
  })
}

function hostProblems({ host, end, expected }: CheckedVeth): readonly string[] {
  const name = end.ifname ?? ''
  const addresses = addressesOf(host, end.index).map(formatPrefix)
  const routes = routesOf(host, end.index).map(({ destination }) => formatPrefix(destination))
  return hopsOf(expected).flatMap(({ address, gateway }) => [
    ...(addresses.includes(formatPrefix(singlePrefix(gateway)))
      ? []
      : [`the gateway's address ${formatPrefix(singlePrefix(gateway))} on "${name}" is missing`]),
    ...(routes.includes(formatPrefix(singlePrefix(address.address)))
      ? []
      : [`the host's route to ${formatPrefix(singlePrefix(address.address))} is missing`]),
  ])
}

/** @throws TsnetError TSNET_CONFIG, CNI code 7 */
function requiredIpam(request: PluginRequest): Ipam {
  const ipam = ipamOf(request)
  if (ipam !== undefined) return ipam
  throw new TsnetError('TSNET_CONFIG', 'Cannot do without "ipam": each end of the link needs an address', { cniCode: CNI_CODE.invalidConfig })
}
