/**
 * The table `inet tsnet`: constant rules over sets and maps. An attachment only adds elements, so that a packet and an ADD cost
 * the same with one published port and with ten thousand. As `nft list` prints it: docs/rules.md. Pure.
 */
import type { Expression } from '../../wire/nftables.ts'
import {
  arrivedBy,
  decide,
  type Field,
  familyIs,
  inSet,
  masquerade,
  startsWith,
  toOneHost,
  toThisHost,
  tracked,
  translate,
  translateSource,
  verdict,
} from './expression.ts'

export const TABLE = 'tsnet'
/** The administrator's chain: it comes first, and tsnet never writes into it. */
export const USER_CHAIN = 'tsnet-user'

export interface SetDefinition {
  readonly name: string
  readonly key: readonly Field[]
  /** Elements are ranges of keys. */
  readonly interval: boolean
  /** Present in a map: an address of this family, and a port behind it if so; or a jump to a chain. */
  readonly data?: { readonly family: 4 | 6; readonly port: boolean } | 'verdict'
}

export interface ChainDefinition {
  readonly name: string
  readonly hook?: { readonly type: 'nat' | 'filter'; readonly hooknum: number; readonly priority: number }
  /** Encoded only where they are written or counted: most calls just add elements. */
  readonly rules: () => readonly (readonly Expression[])[]
}

// include/uapi/linux/netfilter.h, enum nf_inet_hooks; netfilter_ipv4.h, enum nf_ip_hook_priorities
const HOOK = { prerouting: 0, forward: 2, output: 3, postrouting: 4 }
const PRIORITY = { raw: -300, dstnat: -100, filter: 0, srcnat: 100 }

const STATE = { invalid: 1, establishedOrRelated: 2 | 4 }
const STATUS_DNAT = 0x20
const IPV6_LOOPBACK = Uint8Array.of(...Array.from({ length: 15 }, () => 0), 1)

/** What a packet from a bridge to another link meets, and what one that goes to a bridge meets: one class of networks a chain. */
export const FROM = { open: 'from-open', internal: 'from-internal' } as const
export const TO = { open: 'to-open', internal: 'to-internal' } as const

/** Names of the sets that have one for each family. */
export function setNames(family: 4 | 6) {
  return {
    published: `published${family}`,
    publishedAt: `published${family}_at`,
    ranges: `ranges${family}`,
    rangesAt: `ranges${family}_at`,
    limited: `limited${family}`,
    allowed: `allowed${family}`,
    direct: `direct${family}`,
    trusted: `trusted${family}`,
    subnets: `subnets${family}`,
    masquerade: `masquerade${family}`,
    snat: `snat${family}`,
  } as const
}

const FAMILIES = [4, 6] as const
const source = (family: 4 | 6) => (family === 4 ? 'source4' : 'source6')
const destination = (family: 4 | 6) => (family === 4 ? 'destination4' : 'destination6')
const PORT: readonly Field[] = ['l4proto', 'destinationPort']
/** Where a packet goes. */
const service = (family: 4 | 6): readonly Field[] => [destination(family), ...PORT]
/** Where it comes from and where it goes. */
const flow = (family: 4 | 6): readonly Field[] => [source(family), ...service(family)]

export const SETS: readonly SetDefinition[] = [
  { name: 'bridges', key: ['iifname'], interval: false },
  { name: 'from', key: ['iifname'], interval: false, data: 'verdict' },
  { name: 'to', key: ['oifname'], interval: false, data: 'verdict' },
  { name: 'within', key: ['iifname', 'oifname'], interval: false },
  ...FAMILIES.flatMap((family): readonly SetDefinition[] => {
    const names = setNames(family)
    return [
      { name: names.published, key: PORT, interval: false, data: { family, port: true } },
      { name: names.publishedAt, key: service(family), interval: false, data: { family, port: true } },
      { name: names.ranges, key: PORT, interval: true, data: { family, port: false } },
      { name: names.rangesAt, key: service(family), interval: true, data: { family, port: false } },
      { name: names.limited, key: service(family), interval: true },
      { name: names.allowed, key: flow(family), interval: true },
      { name: names.direct, key: flow(family), interval: true },
      { name: names.trusted, key: [source(family), 'oifname'], interval: true },
      { name: names.subnets, key: [source(family), 'oifname'], interval: true },
      { name: names.masquerade, key: [source(family), 'iifname'], interval: true },
      { name: names.snat, key: [source(family), 'iifname'], interval: true, data: { family, port: false } },
    ]
  }),
]

export const CHAINS: readonly ChainDefinition[] = [
  { name: USER_CHAIN, rules: () => [] },
  { name: 'publish', rules: () => FAMILIES.flatMap(publishRules) },
  // A packet that belongs to no connection would leave with the container's own address.
  { name: FROM.open, rules: () => [[...tracked('state', STATE.invalid), verdict('drop')]] },
  { name: FROM.internal, rules: () => [[...inSet('within', ['iifname', 'oifname']), verdict('accept')], [verdict('drop')]] },
  {
    name: TO.open,
    rules: () => [
      [...tracked('status', STATUS_DNAT), verdict('accept')],
      [...inSet('within', ['iifname', 'oifname']), verdict('accept')],
      ...FAMILIES.map((family) => [...familyIs(family), ...inSet(setNames(family).direct, flow(family)), verdict('accept')]),
      ...FAMILIES.map((family) => [...familyIs(family), ...inSet(setNames(family).trusted, [source(family), 'oifname']), verdict('accept')]),
      [verdict('drop')],
    ],
  },
  { name: TO.internal, rules: () => [[...inSet('within', ['iifname', 'oifname']), verdict('accept')], [verdict('drop')]] },
  {
    name: 'guard',
    hook: { type: 'filter', hooknum: HOOK.prerouting, priority: PRIORITY.raw },
    // route_localnet on a bridge lets 127.0.0.1 reach a container; without this, a container could send to the host's 127.0.0.1.
    rules: () => [[...familyIs(4), ...startsWith('destination4', Uint8Array.of(127)), ...arrivedBy('is not', 'lo'), verdict('drop')]],
  },
  {
    name: 'prerouting',
    hook: { type: 'nat', hooknum: HOOK.prerouting, priority: PRIORITY.dstnat },
    rules: () => [[...toThisHost(), verdict({ jump: 'publish' })]],
  },
  {
    name: 'output',
    hook: { type: 'nat', hooknum: HOOK.output, priority: PRIORITY.dstnat },
    rules: () => [
      // The kernel lets no packet from ::1 out of lo, so a translated one would be lost: who asks ::1 must be refused, and try 127.0.0.1.
      [...familyIs(6), ...startsWith('destination6', IPV6_LOOPBACK), verdict('return')],
      [...toThisHost(), verdict({ jump: 'publish' })],
    ],
  },
  { name: 'postrouting', hook: { type: 'nat', hooknum: HOOK.postrouting, priority: PRIORITY.srcnat }, rules: postroutingRules },
  {
    name: 'forward',
    hook: { type: 'filter', hooknum: HOOK.forward, priority: PRIORITY.filter },
    rules: () => [
      [verdict({ jump: USER_CHAIN })],
      // Nearly every packet ends here. What no table of ours decided is still for other tables to decide.
      [...tracked('state', STATE.establishedOrRelated), verdict('accept')],
      decide('from', ['iifname']),
      decide('to', ['oifname']),
    ],
  },
]

/** Who may not connect finds nothing published. A specific host address comes before any, one port before a range. */
function publishRules(family: 4 | 6): readonly (readonly Expression[])[] {
  const names = setNames(family)
  const rule = (map: string, fields: readonly Field[], port: boolean) => [...familyIs(family), ...translate(map, fields, { family, port })]
  const at = service(family)
  return [
    [...familyIs(family), ...inSet(names.limited, at), ...inSet(names.allowed, flow(family), 'not in'), verdict('return')],
    rule(names.publishedAt, at, true),
    rule(names.published, PORT, true),
    rule(names.rangesAt, at, false),
    rule(names.ranges, PORT, false),
  ]
}

function postroutingRules(): readonly (readonly Expression[])[] {
  const loopback = [...familyIs(4), ...startsWith('source4', Uint8Array.of(127)), ...inSet('bridges', ['oifname']), masquerade()]
  const perFamily = (family: 4 | 6) => [
    // Published and reached from its own bridge: the answer must come back through the host, which alone knows the translation.
    [...tracked('status', STATUS_DNAT), ...familyIs(family), ...inSet(setNames(family).subnets, [source(family), 'oifname']), masquerade()],
    [...leaving(family), ...translateSource(setNames(family).snat, [source(family), 'iifname'], family)],
    [...leaving(family), ...inSet(setNames(family).masquerade, [source(family), 'iifname']), masquerade()],
  ]
  return [...perFamily(4), ...perFamily(6), loopback]
}

/** The packet goes to one host, by another link than a bridge of ours: towards those it keeps its address, so that a server sees its client. */
function leaving(family: 4 | 6): readonly Expression[] {
  return [...familyIs(family), ...toOneHost(family), ...inSet('bridges', ['oifname'], 'not in')]
}
