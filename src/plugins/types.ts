/** The names under which runtimes find the program: each is a plugin type and an entry of dist/bin/. */

/** Those of the small bundle that most calls are about. */
export const OWN_TYPES = ['tsnet', 'loopback'] as const

/** Those of containernetworking/plugins that the program takes the place of, beside loopback. */
export const REFERENCE_TYPES = [
  'bandwidth',
  'bridge',
  'dhcp',
  'dummy',
  'firewall',
  'host-device',
  'host-local',
  'ipvlan',
  'macvlan',
  'portmap',
  'ptp',
  'sbr',
  'static',
  'tap',
  'tuning',
  'vlan',
  'vrf',
] as const

export const PLUGIN_TYPES: readonly string[] = [...OWN_TYPES, ...REFERENCE_TYPES]
