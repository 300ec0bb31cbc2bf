/** Keys that the types `bridge` and `ptp` share. */

import type { MasqueradeBackend } from '../chained/masquerade.ts'
import { field, invalidField, type JsonObject, optionalBoolean, optionalInteger, optionalObject, optionalString } from '../cni/json.ts'
import { parseDns, type ResultDns } from '../cni/result.ts'

export interface VethConfig {
  /** Present when packets of the container leave with the host's address. */
  readonly masquerade?: { readonly backend?: MasqueradeBackend }
  /** Bytes. */
  readonly mtu?: number
  /** Present when the definition says anything of dns: it takes the place of what IPAM says. */
  readonly dns?: ResultDns
}

const MAX_MTU = 65535
const DNS_KEYS = ['nameservers', 'domain', 'search', 'options']

/** @throws TsnetError TSNET_CONFIG, CNI code 7 */
export function parseVethConfig(raw: JsonObject): VethConfig {
  const backend = parseBackend(raw)
  const mtu = optionalInteger(raw, 'mtu', { min: 0, max: MAX_MTU }) || undefined
  const dns = optionalObject(raw, 'dns')
  return {
    ...(optionalBoolean(raw, 'ipMasq') === true && { masquerade: backend === undefined ? {} : { backend } }),
    ...(mtu !== undefined && { mtu }),
    ...(dns !== undefined && DNS_KEYS.some((key) => field(dns, key) !== undefined) && { dns: parseDns(dns) }),
  }
}

function parseBackend(raw: JsonObject): MasqueradeBackend | undefined {
  const name = optionalString(raw, 'ipMasqBackend') || undefined
  if (name === undefined || name === 'iptables' || name === 'nftables') return name
  throw invalidField('ipMasqBackend', name, '"iptables" or "nftables"')
}
