/** What a plugin type is to the program: five verbs over a parsed request. */
import type { CniRequest, Verbs } from '../cni/exchange.ts'
import type { Result } from '../cni/result.ts'
import type { PlanContext } from '../plan/attach.ts'
import type { Owner } from '../plan/owner.ts'

export interface PluginRequest extends CniRequest {
  readonly context: PlanContext
}

/** Each verb throws a TsnetError when it failed. */
export type Plugin = Verbs<PluginRequest, Result, void>

/**
 * @param entry The name under which the program was executed.
 * @param type The configuration's type.
 */
export type FindPlugin = (entry: string, type: string) => Plugin

/** @returns The attachment that a request is about; its members are empty for GC and STATUS. */
export function ownerOf({ environment, config }: PluginRequest): Owner {
  return { network: config.name, containerID: environment.containerID, ifname: environment.ifname }
}
