/** CHECK of type `bridge`. */
import { addressesOf } from '../bridge/address.ts'
import { macToText } from '../bridge/mac.ts'
import { wrongPortVlans } from '../bridge/port-vlans.ts'
import { nameOf } from '../chained/vlan-gateway.ts'
import { missingSpoofCheck } from '../nat/spoof-check.ts'
import { findLink, type ObservedLink } from '../netlink/rtnetlink.ts'
import { formatPrefix } from '../wire/ip-address.ts'
import { IFF_PROMISC, IFF_UP } from '../wire/link.ts'
import { type BridgeConfig, hasVlans, parseBridgeConfig, vlansOf } from './bridge-config.ts'
import { gatewayPrefixes } from './bridge-gateway.ts'
import type { PluginRequest } from './plugin.ts'
import { type CheckedVeth, checkVeth } from './veth-check.ts'

/** @throws TsnetError TSNET_CHECK, CNI code 104, with everything that is wrong */
export function checkBridge(request: PluginRequest): void {
  const config = parseBridgeConfig(request.config, request.environment.args)
  checkVeth(request, config, (veth) => {
    const device = findLink(veth.host, config.bridge)
    if (device === undefined) return [`the bridge "${config.bridge}" is missing`]
    if (device.linkinfo?.kind !== 'bridge') return [`"${config.bridge}" is no bridge`]
    return [...bridgeProblems(veth, config, device), ...portProblems(veth, config, device), ...gatewayProblems(veth, config, device)]
  })
}

function bridgeProblems({ expected }: CheckedVeth, { bridge, promiscuous }: BridgeConfig, device: ObservedLink): readonly string[] {
  const mac = expected.interfaces.find(({ name, sandbox }) => name === bridge && sandbox === undefined)?.mac
  const present = macToText(device.address ?? new Uint8Array())
  return [
    ...((device.flags & IFF_UP) === 0 ? [`the bridge "${bridge}" is down`] : []),
    ...(mac !== undefined && mac.toLowerCase() !== present ? [`the MAC address of "${bridge}" is ${present}, not ${mac}`] : []),
    ...(promiscuous && (device.flags & IFF_PROMISC) === 0 ? [`"${bridge}" is not promiscuous`] : []),
  ]
}

function portProblems({ owner, host, end, link }: CheckedVeth, config: BridgeConfig, device: ObservedLink): readonly string[] {
  const name = end.ifname ?? ''
  if (end.master !== device.index) return [`"${name}" is no port of "${config.bridge}"`]
  const port = end.linkinfo?.bridgePort
  const differs = (value: number | undefined, wanted: boolean) => (value === 1) !== wanted
  const wrong = hasVlans(config) ? wrongPortVlans(host, end.index, vlansOf(config)) : []
  const mac = link.address ?? new Uint8Array()
  return [
    ...(differs(port?.hairpin, config.hairpin) ? [`hairpin mode of the port "${name}" is not ${config.hairpin ? 'on' : 'off'}`] : []),
    ...(differs(port?.isolated, config.isolated) ? [`isolation of the port "${name}" is not ${config.isolated ? 'on' : 'off'}`] : []),
    ...(wrong.length > 0 ? [`the port "${name}" is wrong in VLAN ${wrong.join(', ')}`] : []),
    ...(config.spoofCheck ? missingSpoofCheck({ containerID: owner.containerID, ifname: owner.ifname, name, mac }) : []).map(
      (rule) => `${rule} is missing`,
    ),
  ]
}

function gatewayProblems({ host, expected }: CheckedVeth, config: BridgeConfig, device: ObservedLink): readonly string[] {
  if (!config.isGateway) return []
  const { bridge, vlan } = config
  const link = vlan === undefined ? device : findLink(host, nameOf({ bridge, vlan }))
  if (link === undefined) return [`the gateway's interface of VLAN ${vlan} is missing`]
  const present = addressesOf(host, link.index).map(formatPrefix)
  const missing = gatewayPrefixes(expected).filter((prefix) => !present.includes(formatPrefix(prefix)))
  return missing.map((prefix) => `the gateway's address ${formatPrefix(prefix)} on "${link.ifname}" is missing`)
}
