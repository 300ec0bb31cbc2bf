/** A network's bridge in firewalld: put into its zone when the network comes into being, taken out with the last attachment. */
import { distrustBridge, isFirewalldActive, trustBridge, zoneOf } from '../nat/firewalld.ts'
import type { Findings } from './findings.ts'
import { type NetworkRecord, readNetwork, writeNetwork } from './network.ts'
import type { StateFolder } from './state-folder.ts'
import type { UndoStack } from './undo.ts'

/** @returns Whether firewalld would reject what comes from the bridge: it rules this host, and nobody has given the bridge a zone. */
export function needsZone({ bridge, gateway }: Pick<NetworkRecord, 'bridge' | 'gateway'>): boolean {
  return gateway && isFirewalldActive() && zoneOf(bridge) === undefined
}

/** The record says already that the bridge is put into a zone. */
export function enterZone({ bridge }: NetworkRecord, undo: UndoStack): void {
  undo.push(`firewalld's zone for "${bridge}"`, () => distrustBridge(bridge))
  trustBridge(bridge)
}

/** Takes out what tsnet put in. */
export function leaveZone({ bridge, zoned }: NetworkRecord): void {
  if (zoned === true) distrustBridge(bridge)
}

export interface ZoneRepair {
  readonly network: string
  readonly state: StateFolder
  readonly dryRun: boolean
}

/** firewalld was started, or restarted, after the network came into being. */
export function repairZone(known: NetworkRecord, shared: Findings, { network, state, dryRun }: ZoneRepair): void {
  if (!needsZone(known)) return
  if (!dryRun) {
    // The repair may have written it too.
    writeNetwork(state, network, { ...(readNetwork(state, network) ?? known), zoned: true })
    trustBridge(known.bridge)
  }
  shared.add(`the bridge "${known.bridge}" in firewalld's zone "trusted"`)
}
