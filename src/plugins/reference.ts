/** All plugin types: tsnet's own, and those of containernetworking/plugins. */
import { bandwidth } from './bandwidth.ts'
import { bridge } from './bridge.ts'
import { dhcp } from './dhcp.ts'
import { dummy } from './dummy.ts'
import { firewall } from './firewall.ts'
import { hostDevice } from './host-device.ts'
import { hostLocal } from './host-local.ts'
import { ipvlan } from './ipvlan.ts'
import { macvlan } from './macvlan.ts'
import type { FindPlugin, Plugin } from './plugin.ts'
import { portmap } from './portmap.ts'
import { ptp } from './ptp.ts'
import { findOwnPlugin } from './registry.ts'
import { sbr } from './sbr.ts'
import { staticAddresses } from './static.ts'
import { tap } from './tap.ts'
import { tuning } from './tuning.ts'
import { OWN_TYPES } from './types.ts'
import { vlan } from './vlan.ts'
import { vrf } from './vrf.ts'

const REFERENCE: ReadonlyMap<string, Plugin> = new Map([
  ['bandwidth', bandwidth],
  ['bridge', bridge],
  ['dhcp', dhcp],
  ['dummy', dummy],
  ['firewall', firewall],
  ['host-device', hostDevice],
  ['host-local', hostLocal],
  ['ipvlan', ipvlan],
  ['macvlan', macvlan],
  ['portmap', portmap],
  ['ptp', ptp],
  ['sbr', sbr],
  ['static', staticAddresses],
  ['tap', tap],
  ['tuning', tuning],
  ['vlan', vlan],
  ['vrf', vrf],
])

/** An entry that was installed under a name of its own is what the configuration says. */
export const findAnyPlugin: FindPlugin = (entry, type) => {
  if (OWN_TYPES.some((own) => own === entry)) return findOwnPlugin(entry, type)
  return REFERENCE.get(entry) ?? REFERENCE.get(type) ?? findOwnPlugin(type, type)
}
