/** One call of the CNI protocol to what the program prints: the same in one shot and in the agent. */
import { type Answer, failure, success, versionAnswer } from '../cni/exchange.ts'
import { parseEnvironment } from '../cni/request.ts'
import { versionDocument } from '../cni/version.ts'
import type { PlanContext } from '../plan/attach.ts'
import { explainPermission } from './permission.ts'
import type { FindPlugin } from './plugin.ts'
import { runPlugin } from './run.ts'

export interface RawCall {
  /** The name under which the program was executed. */
  readonly entry: string
  readonly find: FindPlugin
  readonly env: Readonly<Record<string, string | undefined>>
  /** Reads all of standard input; not asked for VERSION. */
  readonly readInput: () => string
}

export function answer({ entry, find, env, readInput }: RawCall, openContext: () => PlanContext): Answer {
  try {
    const environment = parseEnvironment(env)
    if (environment.command === 'VERSION') return versionAnswer(versionDocument())
    return success(runPlugin({ entry, find, environment, input: readInput() }, openContext()))
  } catch (error) {
    return failure(explainPermission(error))
  }
}
