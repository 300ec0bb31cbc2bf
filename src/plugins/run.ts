/** One request of the CNI protocol from environment and configuration to the document that answers it. */
import type { JsonObject } from '../cni/json.ts'
import { type Environment, parseConfig } from '../cni/request.ts'
import { formatResult } from '../cni/result.ts'
import type { PlanContext } from '../plan/attach.ts'
import { findPlugin } from './registry.ts'

export interface Call {
  /** The name under which the program was executed. */
  readonly entry: string
  readonly environment: Environment
  /** All of standard input. */
  readonly input: string
}

/** @returns The result document of an ADD; nothing for the other commands. @throws TsnetError */
export function runPlugin({ entry, environment, input }: Call, context: PlanContext): JsonObject | undefined {
  const config = parseConfig(input, environment.command)
  const plugin = findPlugin(entry, config.type)
  const request = { environment, config, context }
  switch (environment.command) {
    case 'ADD':
      return formatResult(plugin.add(request), config.cniVersion)
    case 'DEL':
      return void plugin.del(request)
    case 'CHECK':
      return void plugin.check(request)
    case 'GC':
      return void plugin.gc(request)
    case 'STATUS':
      return void plugin.status(request)
    case 'VERSION':
      return undefined
  }
}
