/** Walks the steps of a plan and registers how each is taken back. */
import { deleteAddress, ensureAddress, waitForAddress } from '../bridge/address.ts'
import { createBridge, deleteBridge, filterBridge, ignoreGroupFrames, setBridgeUp } from '../bridge/bridge.ts'
import { joinBridge, setBridgePort, waitForForwarding } from '../bridge/bridge-port.ts'
import { applyLinkSettings } from '../bridge/link-settings.ts'
import { ensureRoute, type RouteOptions } from '../bridge/route.ts'
import { createDetour, deleteDetour, leaveDetour, limitIngress, takeDetour, unlimitIngress } from '../bridge/shaper.ts'
import { ensureSourceRule } from '../bridge/source-rule.ts'
import { createVeth, deleteVeth } from '../bridge/veth.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import type { Backend, PendingChange, RulePart } from '../nat/backend.ts'
import type { NetworkRules } from '../nat/model.ts'
import { guardSources, unguardSources } from '../nat/source-guard/guard.ts'
import { changeLink, findLink, linkChange } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { type Netns, within } from '../sys/netns.ts'
import { readSysctl, setSysctl, writeSysctl } from '../sys/sysctl.ts'
import { checkTimeLimit } from '../sys/time-limit.ts'
import type { PlanContext } from './attach.ts'
import type { Step } from './diff.ts'
import { type HostSysctl, isSet, type Sysctl } from './host-switches.ts'
import { keepAdvertisedRoutes } from './router-advertisement.ts'
import type { UndoStack } from './undo.ts'

export interface ApplyContext {
  readonly host: NetlinkSocket
  /** A socket in the container's namespace. */
  readonly container: NetlinkSocket
  readonly netns: Netns
  readonly backend: Backend
  /** Whether the network is new or has changed, so that its own rules and what all networks share may be missing. */
  readonly fresh: boolean
  /** Rules of the network that its changed configuration no longer wants. */
  readonly formerRules: readonly NetworkRules[]
  readonly undo: UndoStack
  /** Whether nobody else has come to rely on a switch of the host's, so that it is turned back when this ADD is. */
  readonly alone: (scope: HostSysctl['scope']) => boolean
  /** Whether no other network has rules in the backend, so that what all share goes with an ADD that is taken back. */
  readonly lastOfBackend: () => boolean
  /** Hears of a route that another interface of the container has already: the first one stays. */
  readonly onRouteTaken: (route: RouteOptions) => void
  /** See `PlanContext.sendAnnouncement`. */
  readonly sendAnnouncement?: PlanContext['sendAnnouncement']
  /** Done before the links are made: another process writes the rules meanwhile, so that it costs no time. */
  readonly whileRulesAreWritten?: () => void
}

/** @throws KernelError or TsnetError of the step that failed; those before it are registered in `context.undo` */
export function apply(steps: readonly Step[], context: ApplyContext): void {
  const pending: PendingChange[] = []
  for (const step of steps) {
    checkTimeLimit()
    if (step.kind === 'writeRules') {
      pending.push(startRules(step.rules, context))
      context.whileRulesAreWritten?.()
    } else perform(step, context)
  }
  for (const change of pending) change.finish()
  // On a busy machine containers would begin before the host takes packets for their gateway.
  for (const step of steps) if (step.kind === 'addBridgeAddress') waitForAddress(context.host, step.prefix.address)
}

function perform(step: Exclude<Step, { kind: 'writeRules' }>, context: ApplyContext): void {
  const { host, container, undo } = context
  switch (step.kind) {
    case 'createBridge':
      undo.push(`bridge "${step.name}"`, () => deleteBridge(host, step.name, step.mac))
      createBridge(host, { name: step.name, mac: step.mac, mtu: step.mtu })
      return
    case 'setBridgeMac':
      return changeLink(host, `set the MAC address of "${step.name}"`, { id: step.name, link: { address: step.mac } })
    case 'setBridgeUp':
      return setBridgeUp(host, step.name)
    case 'ignoreGroupFrames':
      undo.push(`option of the bridge "${step.name}"`, () => ignoreGroupFrames(host, step.name, false))
      return ignoreGroupFrames(host, step.name, true)
    case 'filterBridge':
      return filterBridge(host, step.name)
    case 'addBridgeAddress': {
      const index = indexOf(host, step.name)
      if (!ensureAddress(host, index, step.prefix)) return
      undo.push('bridge address', () => deleteAddress(host, index, step.prefix))
      return
    }
    case 'setHostSysctl':
      return setHostSysctl(step.sysctl, context)
    case 'createVeth': {
      const { port, bridge, kind: _, ...options } = step
      const { name: hostName, mac: hostMac, alias } = port
      undo.push(`veth "${hostName}"`, () => deleteVeth(host, hostName, alias))
      const bridgeIndex = indexOf(host, bridge)
      return createVeth(host, container, { ...options, hostName, hostMac, alias, netnsFd: context.netns.fd, bridgeIndex })
    }
    case 'setPortMaster':
      return joinBridge(host, step.name, indexOf(host, step.bridge))
    case 'setPortUp':
      return changeLink(host, `set "${step.name}" up`, { id: step.name, up: true })
    case 'setPort':
      return setBridgePort(host, step.name, { hairpin: step.hairpin ? 1 : 0, isolated: step.isolated ? 1 : 0 })
    case 'setPortIpv6Off':
      // Frames of a port go to the bridge; only what the host itself sends would go out of it: a link-local address, reports.
      setSysctl(`net/ipv6/conf/${step.name}/disable_ipv6`, '1')
      return
    case 'limitRates':
      return limitRates(step, context)
    case 'setContainerSettings':
      return applyLinkSettings(container, step.ifname, step.settings)
    case 'setContainerSysctls':
      return within(context.netns, () => {
        for (const sysctl of step.sysctls) setContainerSysctl(sysctl, undo, context.netns)
      })
    case 'setLoopbackUp':
      return changeLink(container, 'set the loopback interface up', { id: 1, up: true })
    case 'addAddress':
      ensureAddress(container, indexOf(container, step.ifname), step.prefix)
      return
    case 'setContainerUp':
      return changeLink(container, `set "${step.ifname}" up`, { id: step.ifname, up: true })
    case 'addRoute':
      if (!ensureRoute(container, indexOf(container, step.ifname), step.route)) context.onRouteTaken(step.route)
      return
    case 'addSourceRule':
      ensureSourceRule(container, step.rule)
      return
    case 'guardSources':
      undo.push('guard of the sources', () => unguardSources(() => step.guard, true))
      return guardSources(step.guard)
    case 'announce':
      return announce(step, context)
  }
}

/** Whatever is there of them is replaced: the port is ours alone. */
function limitRates({ port, mtu, limits }: Extract<Step, { kind: 'limitRates' }>, { host, undo }: ApplyContext): void {
  const index = indexOf(host, port)
  const { ingress, egress, detour } = limits
  if (ingress !== undefined) {
    unlimitIngress(host, index)
    limitIngress(host, index, ingress)
  }
  if (egress === undefined) return
  leaveDetour(host, index)
  deleteDetour(host, detour)
  undo.push(`detour "${detour}"`, () => deleteDetour(host, detour))
  createDetour(host, { name: detour, mtu }, egress)
  takeDetour(host, index, detour)
}

/** One of the configuration's may be the whole container's, and not go with the interface. */
function setContainerSysctl({ key, value, required }: Sysctl, undo: UndoStack, netns: Netns): void {
  if (required !== true) return void setSysctl(key, value)
  const former = readSysctl(key)
  if (former === undefined) {
    throw new TsnetError('TSNET_CONFIG', `Cannot set the sysctl "${key}": the kernel has none of that name`, { cniCode: CNI_CODE.invalidConfig })
  }
  if (former === value) return
  undo.push(`sysctl ${key}`, () => within(netns, () => void (readSysctl(key) === undefined || writeSysctl(key, former))))
  writeSysctl(key, value)
}

/** One that another has come to rely upon is not turned back. */
function setHostSysctl(sysctl: HostSysctl, context: ApplyContext): void {
  const { key, value, scope } = sysctl
  const former = readSysctl(key)
  if (former === undefined || isSet(sysctl, former)) return
  const forget = key === 'net/ipv6/conf/all/forwarding' ? keepAdvertisedRoutes(context.host) : undefined
  writeSysctl(key, value)
  context.undo.push(`sysctl ${key}`, () => {
    if (readSysctl(key) !== value || !context.alone(scope)) return
    writeSysctl(key, former)
    forget?.()
  })
}

/** Another process writes the rules while this one goes on with the links. */
function startRules(rules: RulePart, { fresh, formerRules, backend, undo, lastOfBackend }: ApplyContext): PendingChange {
  const part = fresh ? rules : { ...rules, networks: [] }
  const former = { networks: formerRules, attachments: [] }
  const expect = { networks: fresh ? [] : rules.networks, attachments: [] }
  let pending: PendingChange | undefined
  // Before it is tried: the kernel may do it, and its answer be lost.
  undo.push('rules', () => {
    if (pending !== undefined) settle(pending)
    backend.startChange({ add: former, remove: part, base: fresh && formerRules.length === 0 && lastOfBackend() ? 'drop' : 'keep' }).finish()
  })
  pending = once(backend.startChange({ add: part, expect, remove: former, base: fresh ? 'ensure' : 'keep' }))
  return pending
}

/** @returns A change that may be asked to finish again. */
function once(change: PendingChange): PendingChange {
  let finished = false
  return {
    finish: () => {
      if (finished) return
      finished = true
      change.finish()
    },
  }
}

/** What is to be taken back must have come to its end, good or bad. */
function settle(change: PendingChange): void {
  try {
    change.finish()
  } catch {
    // The step that failed first has been reported.
  }
}

/**
 * Setting the address that the interface already has makes the kernel send what arp_notify and ndisc_notify ask for: a
 * gratuitous ARP and an unsolicited neighbour advertisement. A packet socket of our own would cost an RCU wait to close.
 */
function announce({ port, ifname, mac }: Extract<Step, { kind: 'announce' }>, { host, container, sendAnnouncement }: ApplyContext): void {
  if (!waitForForwarding(host, port))
    throw new TsnetError('TSNET_PORT', `Cannot use the bridge port "${port}": the bridge does not forward its frames`)
  // By its index: should it be sent late, it must not meet another interface of the same name.
  const request = linkChange(`announce "${ifname}"`, { id: indexOf(container, ifname), link: { address: mac } })
  if (sendAnnouncement === undefined) container.execute(request)
  else sendAnnouncement(container, request)
}

/** Links keep their index as long as they live, and a plan asks for the same one several times. */
const indexes = new WeakMap<NetlinkSocket, Map<string, number>>()

/** Spares looking up a link that has been looked at already. */
export function rememberIndex(rt: NetlinkSocket, { name, index }: { readonly name: string; readonly index: number }): void {
  indexes.set(rt, (indexes.get(rt) ?? new Map<string, number>()).set(name, index))
}

/** @throws TsnetError when there is no such link (any more) */
export function indexOf(rt: NetlinkSocket, name: string): number {
  const index = indexes.get(rt)?.get(name) ?? findLink(rt, name)?.index
  if (index === undefined) throw new TsnetError('TSNET_LINK', `Cannot find the link "${name}": it has vanished`)
  rememberIndex(rt, { name, index })
  return index
}
