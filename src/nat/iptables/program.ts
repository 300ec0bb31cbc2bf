/** iptables-restore and iptables-save as programs: found in the system's folders, never by a caller's PATH. */
import { CNI_CODE, TsnetError } from '../../error.ts'
import { findProgram } from '../../sys/program-path.ts'
import { type RunningProgram, startProgram } from '../../sys/spawn.ts'
import type { Family } from '../../wire/ip-address.ts'

/** Seconds to wait for the lock of the legacy variant; our own limit comes after it. */
const XTABLES_WAIT = 10
const TIMEOUT_MS = 15_000

/** @throws TsnetError with CNI code 50 when it is not installed */
export function findIptables(family: Family, tool: 'restore' | 'save'): string {
  const name = programName(family, tool)
  const path = findProgram(name)
  if (path !== undefined) return path
  throw new TsnetError('TSNET_NO_IPTABLES', `Cannot write the rules: ${name} is not installed`, {
    cniCode: CNI_CODE.notAvailable,
    hint: 'Install the package iptables',
  })
}

export function hasIptables(family: Family): boolean {
  return findProgram(programName(family, 'restore')) !== undefined
}

/** Starts one transaction a table. @returns The running program; its `finish` tells success by status 0. */
export function startRestore(family: Family, text: string): RunningProgram {
  const args = ['--noflush', '-w', String(XTABLES_WAIT)]
  return startProgram({ path: findIptables(family, 'restore'), args, stdin: text, inheritsLocks: true, timeoutMs: TIMEOUT_MS })
}

/** Starts listing all rules of the family. @param table The only one to be listed */
export function startSave(family: Family, table?: string): RunningProgram {
  return startProgram({ path: findIptables(family, 'save'), args: table === undefined ? [] : ['-t', table], timeoutMs: TIMEOUT_MS })
}

/** @returns All rules as text. @throws TsnetError when they cannot be listed */
export function finishSave(running: RunningProgram): string {
  const outcome = running.finish()
  if (outcome.status === 0) return outcome.stdout
  throw iptablesFailed('list the rules', outcome)
}

export function iptablesFailed(what: string, outcome: { readonly status: number; readonly stderr: string }): TsnetError {
  const problem = outcome.stderr.trim().split('\n')[0] ?? ''
  return new TsnetError('TSNET_IPTABLES', `Cannot ${what}: ${problem === '' ? `iptables ended with status ${outcome.status}` : problem}`)
}

function programName(family: Family, tool: 'restore' | 'save'): string {
  return `${family === 4 ? 'iptables' : 'ip6tables'}-${tool}`
}
