/** One call of a plugin by a process of its own: parameters in the environment, one JSON object in, one JSON document out. @see CNI spec 1.1.0, section 2 */
import { readSync, writeSync } from 'node:fs'
import { MAX_CONFIG_BYTES } from '../cni/request.ts'
import { SUPPORTED_VERSIONS } from '../cni/version.ts'
import { isErrno } from '../error.ts'
import { answer } from '../plugins/answer.ts'
import type { FindPlugin } from '../plugins/plugin.ts'
import { libc } from '../sys/libc.ts'
import { sleep } from '../sys/time.ts'
import { openContext } from './context.ts'

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
    writeSync(2, `tsnet ${TSNET_VERSION}, CNI plugin "${entry}"\nCNI protocol versions supported: ${SUPPORTED_VERSIONS.join(', ')}\n`)
    return 0
  }
  const { status, output } = answer({ entry, find, env: process.env, readInput }, openContext)
  print(output)
  return status
}

/** Reads standard input to its end, but not beyond what a configuration may have. */
function readInput(): string {
  const chunks: Buffer[] = []
  let length = 0
  while (length <= MAX_CONFIG_BYTES) {
    const chunk = Buffer.allocUnsafe(65536)
    const count = readChunk(chunk)
    if (count === 0) break
    chunks.push(chunk.subarray(0, count))
    length += count
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** A pipe that its writer made non-blocking has nothing to read yet (EAGAIN), not nothing at all. */
function readChunk(chunk: Buffer): number {
  for (;;) {
    try {
      return readSync(0, chunk)
    } catch (error) {
      if (isErrno(error, 'EOF')) return 0
      if (!isErrno(error, 'EAGAIN')) throw error
      sleep(1)
    }
  }
}

function print(text: string): void {
  const bytes = Buffer.from(text)
  for (let written = 0; written < bytes.length; ) written += writeSync(1, bytes, written)
}
