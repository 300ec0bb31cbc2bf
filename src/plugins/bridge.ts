/** Type `bridge`: each container gets a port of a bridge. */
import { setBridgePort, waitForCarrier } from '../bridge/bridge-port.ts'
import { macToBytes, macToText, randomMac } from '../bridge/mac.ts'
import { setPortVlans } from '../bridge/port-vlans.ts'
import { ensureBridge, ensureGatewayAddresses, ensurePromiscuous, lockBridges, noVlanFiltering } from '../chained/bridge-device.ts'
import { configureLink } from '../chained/container-link.ts'
import { ensureForwarding } from '../chained/forwarding.ts'
import { addressesIn } from '../chained/previous-result.ts'
import type { HostEnd } from '../chained/veth-pair.ts'
import { dropUnusedVlanGateway, ensureVlanGateway } from '../chained/vlan-gateway.ts'
import { field } from '../cni/json.ts'
import type { Result } from '../cni/result.ts'
import { isErrno, TsnetError } from '../error.ts'
import { setUpSpoofCheck, tearDownSpoofCheck } from '../nat/spoof-check.ts'
import { changeLink, findLink, type ObservedLink, requireLink } from '../netlink/rtnetlink.ts'
import { UndoStack } from '../plan/undo.ts'
import { within } from '../sys/netns.ts'
import { ensureSysctl } from '../sys/sysctl.ts'
import { checkBridge } from './bridge-check.ts'
import { type BridgeConfig, DEFAULT_BRIDGE, hasVlans, parseBridgeConfig, vlansOf } from './bridge-config.ts'
import { gatewayPrefixes, withGateways } from './bridge-gateway.ts'
import { bridgeStatus } from './bridge-status.ts'
import { type Ipam, ipamOf } from './ipam.ts'
import type { Plugin } from './plugin.ts'
import { refuseResident } from './resident.ts'
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

/** The container's end in a result's interfaces: bridge, host's end, container's end. */
const CONTAINER = 2

export const bridge: Plugin = {
  add: (request) => {
    const ipam = ipamOf(request)
    const config = parseBridgeConfig(request.config, request.environment.args)
    if (config.detectDuplicates) refuseResident(request.context, 'the detection of duplicate addresses')
    return addVeth(BRIDGE, request, (site) => connect(site, config, ipam))
  },
  del: (request) => delVeth(BRIDGE, request),
  check: (request) => checkBridge(request),
  gc: (request) => collectVeths(BRIDGE, request),
  status: (request) => bridgeStatus(request),
}

const BRIDGE: VethType = {
  name: 'bridge',
  mayHaveMade: ({ master }, host, { config }) => {
    const name = field(config.raw, 'bridge') || DEFAULT_BRIDGE
    return master !== undefined && typeof name === 'string' && findLink(host, master)?.ifname === name
  },
  disconnect: ({ checked, vlanGateway }, { owner, host, state }) => {
    if (checked === true) tearDownSpoofCheck(owner)
    if (vlanGateway !== undefined) dropUnusedVlanGateway(host, vlanGateway, state)
  },
}

/** What all containers of the bridge share is changed last, so that it need not be taken back from under others. */
function connect(site: VethSite, config: BridgeConfig, ipam: Ipam | undefined): Result {
  const { container, netns, host, owner } = site
  const mac = config.mac === undefined ? randomMac() : macToBytes(config.mac)
  const plugged = plugIn(site, config, mac)
  setUpPort(site, config, { end: plugged.end, mac })
  const leased = ipam && withGateways(lease(site, ipam), config)
  if (leased !== undefined) {
    within(netns, () => setSwitches(owner.ifname, config))
    configureLink({ rt: container, netns, name: owner.ifname }, leased)
    masquerade(site, config, leased)
  } else if (!config.linkDown) changeLink(container, `set "${owner.ifname}" up`, { id: owner.ifname, up: true })
  if (!config.linkDown) awaitCarrier(site, plugged.end)
  // The kernel tells the neighbours of an address once more when the MAC address is set.
  if (leased !== undefined) changeLink(container, `announce "${owner.ifname}"`, { id: owner.ifname, link: { address: mac } })
  const bridgeMac = findLink(host, plugged.device.index)?.address ?? new Uint8Array()
  const result = tellable(resultOf(site, config, { ...plugged, mac, bridgeMac, leased }), config, site.request)
  changeShared(site, config, { ...plugged, leased })
  return result
}

interface Plugged {
  readonly device: ObservedLink
  readonly end: HostEnd
  /** The interface that has the gateway's addresses instead of the bridge. */
  readonly vlanGateway: ObservedLink | undefined
}

function plugIn(site: VethSite, config: BridgeConfig, mac: Uint8Array): Plugged {
  const { host, undo, note, request } = site
  const { state } = request.context
  const { bridge: name, vlan, isGateway } = config
  const mtu = config.mtu === undefined ? {} : { mtu: config.mtu }
  using _lock = lockBridges(state)
  const device = ensureBridge(host, { name, vlanFiltering: hasVlans(config), pinned: isGateway, ...mtu }, { state, undo })
  const end = connectPair(site, { bridgeIndex: device.index, mac, ...mtu })
  if (vlan === undefined || !isGateway) return { device, end, vlanGateway: undefined }
  note({ vlanGateway: { bridge: name, vlan } })
  const surroundings = { bridge: device, keepDefault: config.preserveDefaultVlan, state, undo }
  return { device, end, vlanGateway: explained(() => ensureVlanGateway(host, { bridge: name, vlan }, surroundings)) }
}

/** Before the container's end is up, so that no frame passes that must not. */
function setUpPort(
  { host, owner, undo, note }: VethSite,
  config: BridgeConfig,
  { end, mac }: { readonly end: HostEnd; readonly mac: Uint8Array },
): void {
  const { hairpin, isolated } = config
  if (hairpin || isolated) setBridgePort(host, end.name, { ...(hairpin && { hairpin: 1 }), ...(isolated && { isolated: 1 }) })
  if (hasVlans(config)) {
    const { index } = requireLink(host, end.name)
    explained(() => setPortVlans(host, index, vlansOf(config)))
  }
  if (!config.spoofCheck) return
  note({ checked: true })
  undo.push('check of the source MAC address', () => tearDownSpoofCheck(owner))
  setUpSpoofCheck({ containerID: owner.containerID, ifname: owner.ifname, name: end.name, mac })
}

function setSwitches(ifname: string, { detectDuplicates }: BridgeConfig): void {
  const ipv6 = `net/ipv6/conf/${ifname}`
  ensureSysctl(`net/ipv4/conf/${ifname}/arp_notify`, '1')
  ensureSysctl(`${ipv6}/ndisc_notify`, '1')
  if (detectDuplicates) ensureSysctl(`${ipv6}/enhanced_dad`, '1')
  ensureSysctl(`${ipv6}/accept_dad`, detectDuplicates ? '1' : '0')
}

function awaitCarrier({ host }: VethSite, { name }: HostEnd): void {
  if (waitForCarrier(host, name)) return
  throw new TsnetError('TSNET_PORT', `Cannot use the bridge port "${name}": the bridge does not take its frames`)
}

function changeShared(
  { host, request }: VethSite,
  config: BridgeConfig,
  { device, vlanGateway, leased }: Pick<Plugged, 'device' | 'vlanGateway'> & { readonly leased: Result | undefined },
): void {
  const { isGateway, forceAddress: force, promiscuous } = config
  using _lock = lockBridges(request.context.state)
  // Taken back while the lock is held, so that nobody has come to rely upon it.
  using undo = new UndoStack(request.context.warn)
  if (isGateway && leased !== undefined) ensureGatewayAddresses(host, vlanGateway ?? device, { addresses: gatewayPrefixes(leased), force, undo })
  if (promiscuous) ensurePromiscuous(host, device)
  if (isGateway && leased !== undefined)
    ensureForwarding(
      host,
      addressesIn(leased).map(({ address }) => address.family),
    )
  undo.commit()
}

interface Made extends Plugged {
  readonly mac: Uint8Array
  readonly bridgeMac: Uint8Array
  readonly leased: Result | undefined
}

function resultOf({ owner, netns }: VethSite, config: BridgeConfig, { end, mac, bridgeMac, vlanGateway, leased }: Made): Result {
  const { bridge: name, mtu = ETHERNET_MTU } = config
  const interfaces = [
    { name, mac: macToText(bridgeMac) },
    { name: end.name, mac: end.mac, mtu },
    { name: owner.ifname, mac: macToText(mac), mtu, sandbox: netns.path },
    ...(vlanGateway === undefined ? [] : [{ name: vlanGateway.ifname ?? '', mac: macToText(vlanGateway.address ?? new Uint8Array()) }]),
  ]
  if (leased === undefined) return { interfaces, ips: [], routes: [], dns: {} }
  return { ...leased, interfaces, ips: leased.ips.map((ip) => ({ interface: CONTAINER, ...ip })) }
}

/** Names what a kernel lacks that refuses a VLAN. */
function explained<T>(act: () => T): T {
  try {
    return act()
  } catch (error) {
    throw isErrno(error, 'EOPNOTSUPP', 'ENOTSUP') ? noVlanFiltering(error) : error
  }
}
