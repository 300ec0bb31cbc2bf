/** All plugin types: tsnet's own, and those of containernetworking/plugins. */
import { bandwidth } from './bandwidth.ts'
import { hostLocal } from './host-local.ts'
import type { FindPlugin, Plugin } from './plugin.ts'
import { portmap } from './portmap.ts'
import { findOwnPlugin } from './registry.ts'
import { sbr } from './sbr.ts'
import { staticAddresses } from './static.ts'
import { tuning } from './tuning.ts'
import { OWN_TYPES } from './types.ts'
import { vrf } from './vrf.ts'

const REFERENCE: ReadonlyMap<string, Plugin> = new Map([
  ['bandwidth', bandwidth],
  ['portmap', portmap],
  ['sbr', sbr],
  ['tuning', tuning],
  ['vrf', vrf],
  ['host-local', hostLocal],
  ['static', staticAddresses],
])

/** An entry that was installed under a name of its own is what the configuration says. */
export const findAnyPlugin: FindPlugin = (entry, type) => {
  if (OWN_TYPES.some((own) => own === entry)) return findOwnPlugin(entry, type)
  return REFERENCE.get(entry) ?? REFERENCE.get(type) ?? findOwnPlugin(type, type)
}
