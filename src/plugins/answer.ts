/** One call of the CNI protocol to what the program prints: the same in one shot and in the agent. */
import { errorObject } from '../cni/error-object.ts'
import { parseEnvironment } from '../cni/request.ts'
import { versionDocument } from '../cni/version.ts'
import type { PlanContext } from '../plan/attach.ts'
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

export interface Answer {
  /** Exit status. */
  readonly status: number
  /** One JSON document, or nothing. */
  readonly output: string
  /** What failed. */
  readonly error?: unknown
}

export function answer({ entry, find, env, readInput }: RawCall, openContext: () => PlanContext): Answer {
  try {
    const environment = parseEnvironment(env)
    if (environment.command === 'VERSION') return { status: 0, output: `${JSON.stringify(versionDocument())}\n` }
    const result = runPlugin({ entry, find, environment, input: readInput() }, openContext())
    return { status: 0, output: result === undefined ? '' : JSON.stringify(result, undefined, 4) }
  } catch (error) {
    return { status: 1, output: JSON.stringify(errorObject(error), undefined, 4), error }
  }
}
