/** The plugin types that the program answers to. */
import { loopback } from './loopback.ts'
import type { Plugin } from './plugin.ts'
import { tsnet } from './tsnet.ts'

const PLUGINS: ReadonlyMap<string, Plugin> = new Map([
  ['tsnet', tsnet],
  ['loopback', loopback],
])

/**
 * @param entry The name under which the program was executed.
 * @param type The configuration's type, which counts when the entry was installed under a name of its own.
 */
export function findPlugin(entry: string, type: string): Plugin {
  return PLUGINS.get(entry) ?? PLUGINS.get(type) ?? tsnet
}
