/** Capabilities of this process. */
import { readFileSync } from 'node:fs'

/** @see include/uapi/linux/capability.h */
const BITS = { CAP_NET_ADMIN: 12n, CAP_SYS_PTRACE: 19n, CAP_SYS_ADMIN: 21n } as const

export type Capability = keyof typeof BITS

/** @returns Those of `wanted` that are not in the effective set. @see man 7 capabilities, proc_pid_status(5) CapEff */
export function missingCapabilities(wanted: readonly Capability[]): readonly Capability[] {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  if (effective === undefined) return []
  return wanted.filter((name) => ((BigInt(`0x${effective}`) >> BITS[name]) & 1n) === 0n)
}
