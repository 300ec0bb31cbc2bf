/** The plugin types that the program answers to. */
import { loopback } from './loopback.ts'
import type { FindPlugin, Plugin } from './plugin.ts'
import { tsnet } from './tsnet.ts'

const OWN: ReadonlyMap<string, Plugin> = new Map([
  ['tsnet', tsnet],
  ['loopback', loopback],
])

/** Finds the types of the small bundle, which stays small so that a one-shot call of them stays fast. */
export const findOwnPlugin: FindPlugin = (entry) => OWN.get(entry) ?? tsnet
