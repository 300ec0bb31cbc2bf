/** One call of a plugin by a process of its own: parameters in the environment, one JSON object in, one JSON document out. @see CNI spec 1.1.0, section 2 */
import { writeSync } from 'node:fs'
import { SUPPORTED_VERSIONS } from '../cni/version.ts'
import { describe } from '../error.ts'
import { answer } from '../plugins/answer.ts'
import type { FindPlugin } from '../plugins/plugin.ts'
import { libc } from '../sys/libc.ts'
import { openContext } from './context.ts'
import { print, printAbout, readInput } from './standard-streams.ts'

declare const TSNET_VERSION: string

/** Serves the call that this process is about, and ends it. */
export function runOneShot(find: FindPlugin): never {
  const status = serve(find)
  // Everything is written by now, synchronously: node's own way out would take another 2 ms.
  libc._exit(status)
  throw new Error('The process has not ended')
}

function serve(find: FindPlugin): number {
  const entry = process.argv[2] ?? 'tsnet'
  if (!process.env['CNI_COMMAND']) {
    printAbout(`tsnet ${TSNET_VERSION}, CNI plugin "${entry}"`, SUPPORTED_VERSIONS)
    return 0
  }
  const { status, output } = answer({ entry, find, env: process.env, readInput }, openContext)
  try {
    print(output)
  } catch (error) {
    // Who does not get the answer has to DEL, as after any other failure.
    writeSync(2, `tsnet: Cannot write the answer to standard output: ${describe(error)}\n`)
    return 1
  }
  return status
}
