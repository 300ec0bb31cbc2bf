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
  vlan: kind('vlan'),
  ipvlan: kind('ipvlan'),
  dummy: kind('dummy'),
  vrf: kind('vrf'),
  'VLANs on bridges': { argv: ['sh', '-c', 'ip link add probe type bridge vlan_filtering 1 && ip link del probe'], absent: /not supported/ },
} satisfies Readonly<Record<string, Probe>>

export type Feature = keyof typeof PROBES

/** @returns Whether the place's kernel has the feature. */
export function hasFeature(feature: Feature, place: Place): boolean {
  const { argv, absent } = PROBES[feature]
  return !absent.test(place.run(argv).stderr)
}

/** @returns Whether the test is skipped. @throws Error instead, where every feature has to be there */
export function skipsWithout(feature: Feature, place: Place, t: TestContext): boolean {
  if (hasFeature(feature, place)) return false
  const reason = `The kernel has no ${feature}: make test-vm runs this on one that has`
  if (process.env['TSNET_TEST_FULL_KERNEL'] === '1') throw new Error(reason)
  t.skip(reason)
  return true
}

/** A kernel that knows the kind refuses an address of one byte. */
function kind(name: string): Probe {
  return { argv: ['ip', 'link', 'add', 'name', 'probe', 'address', '02', 'type', name], absent: /Unknown device type/ }
}
