/** One request of the CNI protocol from environment and configuration to the document that answers it. */
import { dispatch } from '../cni/exchange.ts'
import type { JsonObject } from '../cni/json.ts'
import { type Environment, parseConfig } from '../cni/request.ts'
import { formatResult } from '../cni/result.ts'
import type { PlanContext } from '../plan/attach.ts'
import { withTimeLimit } from '../sys/time-limit.ts'
import type { FindPlugin } from './plugin.ts'

export interface Call {
  /** The name under which the program was executed. */
  readonly entry: string
  readonly find: FindPlugin
  readonly environment: Environment
  /** All of standard input. */
  readonly input: string
}

/** @returns The result document of an ADD; nothing for the other commands. @throws TsnetError */
export function runPlugin({ entry, find, environment, input }: Call, context: PlanContext): JsonObject | undefined {
  const config = parseConfig(input, environment.command)
  const request = { environment, config, input, context }
  const result = withTimeLimit(context.timeLimitMs, () => dispatch(find(entry, config.type), request))
  return environment.command !== 'ADD' || result === undefined ? undefined : formatResult(result, config.cniVersion)
}
