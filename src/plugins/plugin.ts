/** What a plugin type is to the program: five verbs over a parsed request. */
import type { Environment, RawConfig } from '../cni/request.ts'
import type { Result } from '../cni/result.ts'
import type { PlanContext } from '../plan/attach.ts'

export interface PluginRequest {
  readonly environment: Environment
  readonly config: RawConfig
  /** The configuration as it was sent, for a plugin that this one delegates to. */
  readonly input: string
  readonly context: PlanContext
}

/** Each verb throws a TsnetError when it failed; DEL, CHECK, GC and STATUS answer nothing. */
export interface Plugin {
  add(request: PluginRequest): Result
  del(request: PluginRequest): void
  check(request: PluginRequest): void
  gc(request: PluginRequest): void
  status(request: PluginRequest): void
}

/**
 * @param entry The name under which the program was executed.
 * @param type The configuration's type.
 */
export type FindPlugin = (entry: string, type: string) => Plugin
