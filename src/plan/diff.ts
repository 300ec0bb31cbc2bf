/** The ordered steps from what is true to what shall be true. Pure; an empty list means that nothing is to be done. */

import type { LinkSettings } from '../bridge/link-settings.ts'
import { macToText } from '../bridge/mac.ts'
import type { RouteOptions } from '../bridge/route.ts'
import type { SourceRule } from '../bridge/source-rule.ts'
import type { RulePart } from '../nat/backend.ts'
import type { SourceGuard } from '../nat/source-guard/element.ts'
import { formatAddress, formatPrefix, type IpPrefix, networkAddress } from '../wire/ip-address.ts'
import { RT_TABLE_MAIN } from '../wire/route.ts'
import type { Desired } from './desired.ts'
import { type HostSysctl, isSet, type Sysctl } from './host-switches.ts'
import { isLinkLocal } from './network.ts'
import type { Observed, ObservedContainer } from './observe.ts'

export type Step =
  | { readonly kind: 'createBridge'; readonly name: string; readonly mac: Uint8Array; readonly mtu: number }
  | { readonly kind: 'setBridgeMac'; readonly name: string; readonly mac: Uint8Array }
  | { readonly kind: 'setBridgeUp'; readonly name: string }
  | { readonly kind: 'filterBridge'; readonly name: string }
  | { readonly kind: 'ignoreGroupFrames'; readonly name: string }
  | { readonly kind: 'addBridgeAddress'; readonly name: string; readonly prefix: IpPrefix }
  | { readonly kind: 'setHostSysctl'; readonly sysctl: HostSysctl }
  | {
      readonly kind: 'createVeth'
      readonly port: Desired['port']
      readonly bridge: string
      readonly ifname: string
      readonly mtu: number
      readonly mac: Uint8Array
    }
  | { readonly kind: 'setPortMaster'; readonly name: string; readonly bridge: string }
  | { readonly kind: 'setPortUp'; readonly name: string }
  | { readonly kind: 'setPort'; readonly name: string; readonly hairpin: boolean; readonly isolated: boolean }
  | { readonly kind: 'setPortIpv6Off'; readonly name: string }
  | {
      readonly kind: 'limitRates'
      readonly port: string
      readonly mtu: number
      readonly limits: NonNullable<Desired['limits']>
      readonly missing: readonly string[]
    }
  | { readonly kind: 'setContainerSettings'; readonly ifname: string; readonly settings: LinkSettings }
  | { readonly kind: 'setContainerSysctls'; readonly sysctls: readonly Sysctl[] }
  | { readonly kind: 'setLoopbackUp' }
  | { readonly kind: 'addAddress'; readonly ifname: string; readonly prefix: IpPrefix }
  | { readonly kind: 'setContainerUp'; readonly ifname: string }
  | { readonly kind: 'addRoute'; readonly ifname: string; readonly route: RouteOptions }
  | { readonly kind: 'addSourceRule'; readonly rule: SourceRule }
  | { readonly kind: 'writeRules'; readonly rules: RulePart; readonly missing: readonly string[] }
  | { readonly kind: 'guardSources'; readonly guard: SourceGuard; readonly missing: readonly string[] }
  | { readonly kind: 'announce'; readonly port: string; readonly ifname: string; readonly mac: Uint8Array }

export function diff(desired: Desired, observed: Observed): readonly Step[] {
  return [
    ...ruleSteps(desired, observed),
    ...guardSteps(desired, observed),
    ...bridgeSteps(desired, observed),
    ...portSteps(desired, observed),
    ...limitSteps(desired, observed),
    ...containerSteps(desired, observed),
    ...announceSteps(desired, observed),
  ]
}

/** @returns What the step would do, as it continues "It lacks: ". */
export function describeStep(step: Step): string {
  switch (step.kind) {
    case 'createBridge':
      return `the bridge "${step.name}"`
    case 'setBridgeMac':
      return `the MAC address ${macToText(step.mac)} on "${step.name}"`
    case 'setBridgeUp':
      return `the bridge "${step.name}" up`
    case 'ignoreGroupFrames':
      return `the option no_linklocal_learn of "${step.name}"`
    case 'filterBridge':
      return `the filter for frames that stay on the bridge "${step.name}"`
    case 'addBridgeAddress':
      return `the address ${formatPrefix(step.prefix)} on "${step.name}"`
    case 'setHostSysctl':
      return `${step.sysctl.key} = ${step.sysctl.value}`
    case 'createVeth':
      return `the veth pair "${step.port.name}" and "${step.ifname}" on "${step.bridge}"`
    case 'setPortMaster':
      return `the veth pair's end "${step.name}" as a port of "${step.bridge}"`
    case 'setPortUp':
      return `the port "${step.name}" up`
    case 'setPort':
      return `hairpin ${step.hairpin ? 'on' : 'off'} and isolation ${step.isolated ? 'on' : 'off'} at the port "${step.name}"`
    case 'setPortIpv6Off':
      return `IPv6 off at the port "${step.name}"`
    case 'limitRates':
      return step.missing.length === 0 ? 'the limits of its bandwidth' : `the limits of its bandwidth: ${step.missing.join(', ')}`
    case 'setContainerSettings':
      return `${Object.entries(step.settings)
        .map(([name, value]) => `${name} ${value}`)
        .join(', ')} on "${step.ifname}" in the container`
    case 'setContainerSysctls':
      return step.sysctls.map(({ key, value }) => `${key} = ${value} in the container`).join(', ')
    case 'setLoopbackUp':
      return 'the loopback interface up in the container'
    case 'addAddress':
      return `the address ${formatPrefix(step.prefix)} on "${step.ifname}" in the container`
    case 'setContainerUp':
      return `"${step.ifname}" up in the container`
    case 'addRoute':
      return `the route to ${formatPrefix(step.route.destination)}${step.route.gateway ? ` via ${formatAddress(step.route.gateway)}` : ''} in the container`
    case 'addSourceRule':
      return `the policy rule for ${formatAddress(step.rule.source)} in the container`
    case 'writeRules':
      return describeRules(step.missing)
    case 'guardSources':
      return step.missing.length === 0 ? 'the guard of its sources' : `the guard of its sources: ${step.missing.join(', ')}`
    case 'announce':
      return `the announcement of "${step.ifname}"`
  }
}

function describeRules(missing: readonly string[]): string {
  const [first] = missing
  if (first === undefined) return 'the rules'
  return missing.length === 1 ? `the rule "${first}"` : `${missing.length} rules, the first is "${first}"`
}

function bridgeSteps(desired: Desired, observed: Observed): readonly Step[] {
  const { name, mac, addresses, filtered } = desired.bridge
  const present = (observed.bridge?.addresses ?? []).map(formatPrefix)
  // A kernel without IPv6 has none of its parameters; a bridge that is yet to come has none at all.
  const isWanting = (sysctl: HostSysctl) => {
    const actual = observed.hostSysctls.get(sysctl.key)
    return actual === undefined ? observed.bridge === undefined : !isSet(sysctl, actual)
  }
  return [
    ...(observed.bridge === undefined ? [{ kind: 'createBridge', name, mac, mtu: desired.mtu } as const] : []),
    ...(observed.bridge?.up === false ? [{ kind: 'setBridgeUp', name } as const] : []),
    ...(desired.guard && observed.bridge?.ignoresGroupFrames !== true ? [{ kind: 'ignoreGroupFrames', name } as const] : []),
    ...(filtered && observed.bridge?.filtered !== true ? [{ kind: 'filterBridge', name } as const] : []),
    // Before the addresses: IPv6 must be on for them.
    ...desired.hostSysctls.filter(isWanting).map((sysctl) => ({ kind: 'setHostSysctl', sysctl }) as const),
    ...addresses.filter((prefix) => !present.includes(formatPrefix(prefix))).map((prefix) => ({ kind: 'addBridgeAddress', name, prefix }) as const),
  ]
}

/** A link that comes to a bridge starts with the bridge's own options. */
function portSteps(desired: Desired, { port: there, container: inside, bridge: around }: Observed): readonly Step[] {
  const { port, bridge, container, mtu } = desired
  const { name } = port
  const { hairpin, isolated } = port
  const setPort = { kind: 'setPort', name, hairpin, isolated } as const
  const setIpv6Off = { kind: 'setPortIpv6Off', name } as const
  if (there === undefined || inside === undefined) {
    const create = { kind: 'createVeth', port, bridge: bridge.name, ifname: container.ifname, mtu, mac: container.mac } as const
    return [create, setIpv6Off, ...(hairpin || isolated ? [setPort] : [])]
  }
  const joined = there.master !== 0 && there.master === around?.index
  return [
    ...(joined ? [] : [{ kind: 'setPortMaster', name, bridge: bridge.name } as const]),
    ...(there.up ? [] : [{ kind: 'setPortUp', name } as const]),
    ...((joined && there.hairpin) === hairpin && (joined && there.isolated) === isolated ? [] : [setPort]),
    ...(there.ipv6 ? [setIpv6Off] : []),
  ]
}

function containerSteps(desired: Desired, { container: observed, defaultRoutes = [] }: Observed): readonly Step[] {
  const { ifname, addresses, sysctls } = desired.container
  const present = (observed?.addresses ?? []).map(formatPrefix)
  const known = (observed?.routes ?? []).map(routeKey)
  const wrong = sysctls.filter((sysctl) => observed === undefined || isWrong(sysctl, observed))
  return [
    ...(wrong.length > 0 ? [{ kind: 'setContainerSysctls', sysctls: wrong } as const] : []),
    ...settingSteps(desired, observed),
    ...(observed?.loopbackUp === true ? [] : [{ kind: 'setLoopbackUp' } as const]),
    // Up first: with its address the kernel would announce it, and after it the last step does so again, each time to every port of the bridge.
    ...(observed?.up === true ? [] : [{ kind: 'setContainerUp', ifname } as const]),
    ...addresses.filter((prefix) => !present.includes(formatPrefix(prefix))).map((prefix) => ({ kind: 'addAddress', ifname, prefix }) as const),
    ...routesOf(desired, defaultRoutes)
      .filter((route) => !known.includes(routeKey(route)))
      .map((route) => ({ kind: 'addRoute', ifname, route }) as const),
    ...sourceRuleSteps(desired, observed),
  ]
}

function settingSteps({ container }: Desired, observed: ObservedContainer | undefined): readonly Step[] {
  const present: Readonly<Record<string, unknown>> = { ...observed?.settings }
  const wrong = Object.entries(container.settings).filter(([name, value]) => present[name] !== value)
  return wrong.length === 0 ? [] : [{ kind: 'setContainerSettings', ifname: container.ifname, settings: Object.fromEntries(wrong) }]
}

/** As soon as there is a port, and before it carries anything of the container's. */
function limitSteps({ limits, port, mtu }: Desired, { missingLimits }: Observed): readonly Step[] {
  if (limits === undefined || missingLimits?.length === 0) return []
  return [{ kind: 'limitRates', port: port.name, mtu, limits, missing: missingLimits ?? [] }]
}

/** What the kernel does not have cannot be wrong; and who has given the interface an address of IPv6 since, wants IPv6. */
function isWrong({ key, value }: Sysctl, { sysctls, addresses }: ObservedContainer): boolean {
  const actual = sysctls.get(key)
  if (actual === undefined || actual === value) return false
  return !(key.endsWith('/disable_ipv6') && value === '1' && addresses.some((prefix) => prefix.address.family === 6 && !isLinkLocal(prefix)))
}

/** Each once: the default route of an interface that is not the first is one of its own table's. */
function routesOf({ container }: Desired, defaultRoutes: readonly RouteOptions[]): readonly RouteOptions[] {
  const { routes, yieldedRoutes, sourceRouting } = container
  const standing = defaultRoutes.map(({ destination }) => destination.address.family)
  const free = yieldedRoutes.filter(({ destination }) => !standing.includes(destination.address.family))
  const all = [...(sourceRouting?.routes ?? []), ...routes, ...free]
  return [...new Map(all.map((route) => [routeKey(route), route])).values()]
}

/** Last of what is routed: a rule that leads to an empty table leads on to the main one. */
function sourceRuleSteps({ container }: Desired, observed: ObservedContainer | undefined): readonly Step[] {
  if (container.sourceRouting === undefined) return []
  const { table, sources } = container.sourceRouting
  const key = (rule: SourceRule) => `${formatAddress(rule.source)} ${rule.table}`
  const known = (observed?.sourceRules ?? []).map(key)
  const rules = sources.map((source) => ({ source, table }))
  return rules.filter((rule) => !known.includes(key(rule))).map((rule) => ({ kind: 'addSourceRule', rule }) as const)
}

/** An ADD always writes its rules. They come first: another process writes them while this one makes links. */
function ruleSteps(desired: Desired, { missingRules }: Observed): readonly Step[] {
  const write = missingRules === undefined || missingRules.length > 0
  return write ? [{ kind: 'writeRules', rules: desired.rules, missing: missingRules ?? [] }] : []
}

/** Before the port is there, so that no frame comes by it unguarded. */
function guardSteps({ guard }: Desired, { missingGuard }: Observed): readonly Step[] {
  if (guard === undefined || missingGuard?.length === 0) return []
  return [{ kind: 'guardSources', guard, missing: missingGuard ?? [] }]
}

/** Last, since the port forwards by then. */
function announceSteps({ port, container }: Desired, observed: Observed): readonly Step[] {
  return observed.container === undefined ? [{ kind: 'announce', port: port.name, ifname: container.ifname, mac: container.mac }] : []
}

function routeKey(route: RouteOptions): string {
  const destination = { address: networkAddress(route.destination), prefixLength: route.destination.prefixLength }
  return `${formatPrefix(destination)} ${route.gateway ? formatAddress(route.gateway) : ''} ${route.table ?? RT_TABLE_MAIN}`
}
