/** Standard input, output and error of the programs. */
import { readSync, writeSync } from 'node:fs'
import { MAX_CONFIG_BYTES } from '../cni/request.ts'
import { isErrno } from '../error.ts'
import { sleep } from '../sys/time.ts'

/** Reads standard input to its end, but not beyond what a configuration may have. */
export function readInput(): string {
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

/** Writes all of the text to standard output, however slowly that takes it. */
export function print(text: string): void {
  const bytes = Buffer.from(text)
  for (let written = 0; written < bytes.length; ) written += writeSync(1, bytes, written)
}

/** Says on standard error what a plugin is that was called without a command. */
export function printAbout(about: string, versions: readonly string[]): void {
  writeSync(2, `${about}\nCNI protocol versions supported: ${versions.join(', ')}\n`)
}

/** Writes a line of a resident process's log. One that nobody reads must not hold up a container. */
export function writeLog(line: string): void {
  try {
    writeSync(2, line)
  } catch (error) {
    if (!isErrno(error, 'EAGAIN', 'EPIPE', 'EIO', 'ENOSPC')) throw error
  }
}
