/** The configuration of type `portmap`. @see containernetworking/plugins plugins/meta/portmap/README.md */

import type { PortRuleOptions, PortRulesBackend } from '../chained/port-rules.ts'
import { checkConditions, languageOf } from '../chained/rule-conditions.ts'
import {
  field,
  invalidField,
  type JsonObject,
  optionalBoolean,
  optionalInteger,
  optionalObjects,
  optionalString,
  optionalStrings,
  quote,
} from '../cni/json.ts'
import { type PortMapping, parsePortMappings } from '../cni/port-mapping.ts'
import type { RawConfig } from '../cni/request.ts'
import { CNI_CODE, TsnetError } from '../error.ts'

export interface PortmapConfig {
  readonly mappings: readonly PortMapping[]
  /** Absent: whichever there is. */
  readonly backend?: PortRulesBackend
  readonly options: PortRuleOptions
}

/** Bit of the packet's mark for connections that are masqueraded. */
const MARK_BIT = 13
const BACKENDS: readonly PortRulesBackend[] = ['iptables', 'nftables']

/** @throws TsnetError with CNI code 7 for a bad value or options of two backends, 2 for what only type tsnet can do */
export function parsePortmapConfig({ raw, runtimeConfig }: RawConfig): PortmapConfig {
  const bit = optionalInteger(raw, 'markMasqBit', { min: 0, max: 31 })
  const chain = optionalString(raw, 'externalSetMarkChain') || undefined
  if (bit !== undefined && chain !== undefined) throw refuse('"markMasqBit" together with "externalSetMarkChain"')
  if (chain !== undefined && !/^\w[\w.-]{0,27}$/.test(chain)) throw invalidField('externalSetMarkChain', chain, 'the name of a chain')
  const conditions = { 4: parseConditions(raw, 'conditionsV4'), 6: parseConditions(raw, 'conditionsV6') }
  const backend = parseBackend(raw, { conditions, iptablesOnly: bit !== undefined || chain !== undefined })
  return {
    mappings: parseMappings(runtimeConfig),
    ...(backend && { backend }),
    options: {
      snat: optionalBoolean(raw, 'snat') ?? true,
      masqAll: optionalBoolean(raw, 'masqAll') ?? false,
      mark: chain === undefined ? { bit: bit ?? MARK_BIT } : { chain },
      conditions,
    },
  }
}

interface BackendHints {
  readonly conditions: PortRuleOptions['conditions']
  readonly iptablesOnly: boolean
}

/** Options that only one backend understands choose it. */
function parseBackend(raw: JsonObject, { conditions, iptablesOnly }: BackendHints): PortRulesBackend | undefined {
  const name = optionalString(raw, 'backend') || undefined
  const named = BACKENDS.find((backend) => backend === name)
  if (name !== named) throw invalidField('backend', name, '"iptables" or "nftables"')
  const spoken = [conditions[4], conditions[6]].map(languageOf)
  const meant = BACKENDS.filter((backend) => backend === named || spoken.includes(backend) || (backend === 'iptables' && iptablesOnly))
  if (meant.length > 1) throw refuse('options of iptables together with options, or the backend, of nftables')
  return meant[0]
}

function parseConditions(raw: JsonObject, key: string): readonly string[] {
  const words = optionalStrings(raw, key) ?? []
  checkConditions(words, key)
  return words
}

/** What would widen who can connect if it were passed over is refused. */
function parseMappings(runtimeConfig: JsonObject): readonly PortMapping[] {
  const mappings = parsePortMappings(runtimeConfig)
  for (const [i, raw] of (optionalObjects(runtimeConfig, 'portMappings') ?? []).entries()) {
    const { hostPort, count } = mappings[i] as PortMapping
    if (hostPort === 0) throw invalidField(`portMappings[${i}].hostPort`, hostPort, 'a port from 1 to 65535')
    if (count > 1) throw unsupported(`portMappings[${i}].range`, count)
    if (field(raw, 'allow') !== undefined) throw unsupported(`portMappings[${i}].allow`, field(raw, 'allow'))
  }
  return mappings
}

function refuse(what: string): TsnetError {
  return new TsnetError('TSNET_CONFIG', `Cannot use ${what}`, { cniCode: CNI_CODE.invalidConfig })
}

function unsupported(key: string, value: unknown): TsnetError {
  return new TsnetError('TSNET_UNSUPPORTED', `Unsupported field "${key}": ${quote(value)}`, {
    cniCode: CNI_CODE.unsupportedField,
    hint: 'Use type "tsnet"',
  })
}
