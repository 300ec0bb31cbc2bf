/**
 * What not every kernel has. A test file that imports this one has tests that are skipped where the feature is missing, and
 * `make test-vm` runs it on a kernel that has everything.
 */
import type { TestContext } from 'node:test'
import type { Place } from './machine.ts'

interface Probe {
  readonly argv: readonly string[]
  /** What the program says where the kernel lacks it. */
  readonly absent: RegExp
}

const PROBES = {
  SCTP: { argv: ['socat', '-u', 'OPEN:/dev/null', 'SCTP:127.0.0.1:9'], absent: /[Pp]rotocol not supported/ },
  /** A kernel that knows the kind misses the table. */
  vrf: { argv: ['ip', 'link', 'add', 'probe', 'type', 'vrf', 'table', '0'], absent: /Unknown device type/ },
} satisfies Readonly<Record<string, Probe>>

/** @returns Whether the test is skipped. @throws Error instead, where every feature has to be there */
export function skipsWithout(feature: keyof typeof PROBES, place: Place, t: TestContext): boolean {
  const { argv, absent } = PROBES[feature]
  if (!absent.test(place.run(argv).stderr)) return false
  const reason = `The kernel has no ${feature}: make test-vm runs this on one that has`
  if (process.env['TSNET_TEST_FULL_KERNEL'] === '1') throw new Error(reason)
  t.skip(reason)
  return true
}
