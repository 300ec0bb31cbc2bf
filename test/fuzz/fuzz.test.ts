/**
 * Hostile inputs for whatever reads what others send: never a crash, a stack trace or a hang. `make fuzz` draws a million and others
 * in each run; TSNET_FUZZ_INPUTS and TSNET_FUZZ_SEED say how many and which.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { errorObject } from '../../src/cni/error-object.ts'
import { TsnetError } from '../../src/error.ts'
import { Dice } from './mutation.ts'
import { TARGETS } from './targets.ts'

const INPUTS = Number(process.env['TSNET_FUZZ_INPUTS'] ?? 20_000)
const SEED = Number(process.env['TSNET_FUZZ_SEED'] ?? 20261122)
const LONGEST_MS = 1_000

const shares = Object.values(TARGETS).reduce((sum, { share }) => sum + share, 0)

for (const [name, { share, act }] of Object.entries(TARGETS)) {
  const inputs = Math.ceil((INPUTS * share) / shares)
  test(`${inputs} hostile inputs for ${name} are read or refused in a sentence`, (t) => {
    let refused = 0
    for (let i = 0; i < inputs; i++) {
      const seed = (SEED * 1_000_003 + i) >>> 0
      const start = cpuMs()
      try {
        act(new Dice(seed))
      } catch (error) {
        refused++
        assertDecent(error, `TSNET_FUZZ_SEED=${SEED}, input ${i} for ${name}`)
      }
      const took = cpuMs() - start
      assert.ok(took < LONGEST_MS, `TSNET_FUZZ_SEED=${SEED}, input ${i} for ${name} took ${Math.round(took)} ms`)
    }
    t.diagnostic(`${refused} of ${inputs} refused`)
    assert.ok(refused > inputs / 100 && refused < inputs, 'the inputs are good for nothing')
  })
}

/** Of this process: how long it took on a clock depends on what else the machine does. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

/** What the caller gets to see. A RangeError is what the decoders of the kernel's messages throw. */
function assertDecent(error: unknown, which: string): void {
  assert.ok(
    error instanceof TsnetError || (error instanceof RangeError && !/call stack|Invalid (array|string)/.test(error.message)),
    `${which}: ${(error as Error).stack}`,
  )
  const { code, msg, details = '' } = errorObject(error)
  assert.ok(Number.isInteger(code) && code > 0 && msg !== '', which)
  assert.ok(Buffer.byteLength(msg) <= 4096 && Buffer.byteLength(details) <= 4096, which)
  assert.doesNotMatch(`${msg}${details}`, /\p{Cc}|\u2028|\u2029|\n\s*at /u, which)
}
