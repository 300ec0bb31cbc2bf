/** The names under which runtimes find the program: each is a plugin type and an entry of dist/bin/. */

/** Those of the small bundle that most calls are about. */
export const OWN_TYPES = ['tsnet', 'loopback'] as const

/** Those of containernetworking/plugins that the program takes the place of. */
export const REFERENCE_TYPES = ['dhcp', 'firewall', 'host-local', 'portmap', 'static'] as const

export const PLUGIN_TYPES: readonly string[] = [...OWN_TYPES, ...REFERENCE_TYPES]
