/** ADD and DEL of type `tsnet` without a runtime: what the command, the OCI hook and the library have in common. */
import { pluginInput } from '../cni/conflist.ts'
import { field, type JsonObject, omitFields, quote } from '../cni/json.ts'
import { TsnetError } from '../error.ts'
import type { PlanContext } from '../plan/attach.ts'
import type { Owner } from '../plan/owner.ts'
import { type AttachmentRecord, readRecord } from '../plan/record.ts'
import { findOwnPlugin } from '../plugins/registry.ts'
import { runPlugin } from '../plugins/run.ts'
import type { NetworkDefinition } from './network-definition.ts'

export interface AttachWish {
  readonly containerID: string
  readonly ifname: string
  /** Path of the network namespace. */
  readonly netns: string
  /** What is asked for, by capability: portMappings, ips, mac. */
  readonly capabilityArgs: JsonObject
  /** Whether the container may send with its own addresses only. */
  readonly guard: boolean
}

export interface Attached {
  /** The CNI result, in the version of the definition. */
  readonly result: JsonObject
  readonly record: AttachmentRecord | undefined
}

/** @throws TsnetError; then nothing is left of it. TSNET_DEFINITION when the definition refuses what is asked for */
export function attachContainer(definition: NetworkDefinition, wish: AttachWish, context: PlanContext): Attached {
  const { containerID, ifname, netns } = wish
  const environment = { command: 'ADD', containerID, netns, ifname, path: '', args: '', netnsOverride: false } as const
  const result = runPlugin({ entry: 'tsnet', find: findOwnPlugin, environment, input: configure(definition, wish) }, context)
  return { result: result ?? {}, record: readRecord(context.state, { network: definition.list.name, containerID, ifname }) }
}

/** @param netns The path that its namespace has or had. @throws ErrorList when something could not be removed; its record then stays */
export function detachContainer({ network, containerID, ifname }: Owner, netns: string, context: PlanContext): void {
  const environment = { command: 'DEL', containerID, netns, ifname, path: '', args: '', netnsOverride: false } as const
  const input = JSON.stringify({ cniVersion: '1.1.0', name: network, type: 'tsnet' })
  runPlugin({ entry: 'tsnet', find: findOwnPlugin, environment, input }, context)
}

function configure({ list, plugin, path }: NetworkDefinition, { capabilityArgs, guard }: AttachWish): string {
  const declared = field(plugin, 'capabilities') as JsonObject
  const refused = Object.keys(capabilityArgs).find((capability) => declared[capability] !== true)
  if (refused !== undefined) {
    throw new TsnetError(
      'TSNET_DEFINITION',
      `Cannot attach to network ${quote(list.name)}: ${quote(path)} sets the capability ${refused} to ${quote(declared[refused])}`,
      { hint: 'Leave the option away, or change the definition' },
    )
  }
  const guarded = guard ? { ...omitFields(plugin, 'macspoofchk'), macspoofchk: true } : plugin
  return JSON.stringify(pluginInput(list, guarded, { capabilityArgs }))
}
