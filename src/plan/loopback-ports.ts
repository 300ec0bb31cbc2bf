/** route_localnet is on at a bridge only while one of its containers publishes a port that answers on 127.0.0.0/8. */
import type { PublishedPort } from '../nat/model.ts'
import { ensureSysctl, readSysctl, writeSysctl } from '../sys/sysctl.ts'
import { answersOnLoopback, loopbackSwitch } from './host-switches.ts'
import { readNetwork } from './network.ts'
import type { Owner } from './owner.ts'
import { heldPorts } from './ports.ts'
import { listOwners, readRecord } from './record.ts'
import { SysctlFileChange, type SysctlFileContext } from './sysctl-file.ts'
import type { UndoStack } from './undo.ts'

/** Turns it on when the ports need it. The caller holds the network's lock. */
export function openLoopback(
  network: string,
  ports: readonly PublishedPort[],
  { undo, ...context }: SysctlFileContext & { readonly undo: UndoStack },
): void {
  const bridge = answersOnLoopback(ports) ? readNetwork(context.state, network)?.bridge : undefined
  if (bridge === undefined) return
  const loopback = loopbackSwitch(bridge)
  const file = new SysctlFileChange(context)
  undo.push('sysctl file', () => file.takeBack())
  const former = ensureSysctl(loopback.key, loopback.value)
  if (former !== undefined) undo.push(`sysctl ${loopback.key}`, () => writeSysctl(loopback.key, former))
  file.ensure([loopback], false)
}

/**
 * Turns it off when `owner`, who has such ports no more, was the last that needed it. The caller holds the network's lock.
 * @returns Whether it is off now, for the caller to write the sysctl file
 */
export function closeLoopback(owner: Owner, context: SysctlFileContext): boolean {
  const network = readNetwork(context.state, owner.network)
  if (network === undefined || network.loopbackRouted === true) return false
  const { key } = loopbackSwitch(network.bridge)
  if (readSysctl(key) === undefined || othersAnswer(owner, context)) return false
  // Also when it is off: a kill may have come before the file.
  ensureSysctl(key, '0')
  return true
}

/** A record that cannot be read may be of one that does. */
function othersAnswer(owner: Owner, { state }: SysctlFileContext): boolean {
  return listOwners(state, owner.network)
    .filter(({ containerID, ifname }) => containerID !== owner.containerID || ifname !== owner.ifname)
    .some((other) => {
      const record = readRecord(state, other)
      return record === undefined || answersOnLoopback(heldPorts(record))
    })
}
