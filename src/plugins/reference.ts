/** All plugin types: tsnet's own, and those of containernetworking/plugins. */
import { dhcp } from './dhcp.ts'
import { firewall } from './firewall.ts'
import { hostLocal } from './host-local.ts'
import type { FindPlugin, Plugin } from './plugin.ts'
import { portmap } from './portmap.ts'
import { findOwnPlugin } from './registry.ts'
import { staticAddresses } from './static.ts'
import { OWN_TYPES } from './types.ts'

const REFERENCE: ReadonlyMap<string, Plugin> = new Map([
  ['dhcp', dhcp],
  ['firewall', firewall],
  ['host-local', hostLocal],
  ['portmap', portmap],
  ['static', staticAddresses],
])

/** An entry that was installed under a name of its own is what the configuration says. */
export const findAnyPlugin: FindPlugin = (entry, type) => {
  if (OWN_TYPES.some((own) => own === entry)) return findOwnPlugin(entry, type)
  return REFERENCE.get(entry) ?? REFERENCE.get(type) ?? findOwnPlugin(type, type)
}
