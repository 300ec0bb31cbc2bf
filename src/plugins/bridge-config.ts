/** The configuration of type `bridge`. @see https://www.cni.dev/plugins/current/main/bridge/ */

import type { PortVlans } from '../bridge/port-vlans.ts'
import { requestedMac } from '../cni/capabilities.ts'
import { parseCniArgs } from '../cni/cni-args.ts'
import { invalidField, type JsonObject, optionalBoolean, optionalInteger, optionalObject, optionalObjects, optionalString } from '../cni/json.ts'
import type { RawConfig } from '../cni/request.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import type { PortVlan } from '../wire/bridge-vlan.ts'
import { parseVethConfig, type VethConfig } from './veth-config.ts'

export interface BridgeConfig extends VethConfig {
  readonly bridge: string
  /** Whether the bridge has the gateway's addresses, and the host forwards. */
  readonly isGateway: boolean
  readonly isDefaultGateway: boolean
  /** Whether an address of the bridge that is in the way is taken from it. */
  readonly forceAddress: boolean
  readonly hairpin: boolean
  readonly promiscuous: boolean
  readonly isolated: boolean
  /** Undefined: frames pass whatever their tag. */
  readonly vlan: number | undefined
  /** VLANs whose frames keep their tag. */
  readonly trunk: readonly PortVlan[]
  readonly preserveDefaultVlan: boolean
  /** Whether frames with another source MAC address are dropped. */
  readonly spoofCheck: boolean
  readonly detectDuplicates: boolean
  /** Whether the interface in the container stays down. */
  readonly linkDown: boolean
  /** Lower case, colons. */
  readonly mac: string | undefined
}

export const DEFAULT_BRIDGE = 'cni0'
const LAST_VLAN = 4094

/** @param args CNI_ARGS. @throws TsnetError TSNET_CONFIG, CNI code 7; TSNET_ENVIRONMENT, CNI code 4 */
export function parseBridgeConfig(config: RawConfig, args: string): BridgeConfig {
  const { raw } = config
  const is = (key: string) => optionalBoolean(raw, key) ?? false
  const parsed = {
    ...parseVethConfig(raw),
    bridge: parseBridgeName(raw),
    isGateway: is('isGateway') || is('isDefaultGateway'),
    isDefaultGateway: is('isDefaultGateway'),
    forceAddress: is('forceAddress'),
    hairpin: is('hairpinMode'),
    promiscuous: is('promiscMode'),
    isolated: is('portIsolation'),
    vlan: optionalInteger(raw, 'vlan', { min: 0, max: LAST_VLAN }) || undefined,
    trunk: parseTrunk(raw),
    preserveDefaultVlan: is('preserveDefaultVlan'),
    spoofCheck: is('macspoofchk'),
    detectDuplicates: is('enabledad'),
    linkDown: is('disableContainerInterface'),
    mac: requestedMac({ ...config, cniArgs: parseCniArgs(args) }),
  }
  if (parsed.hairpin && parsed.promiscuous) throw contradiction('hairpinMode', 'promiscMode', 'each would let frames come back to their sender')
  if (parsed.linkDown && optionalString(optionalObject(raw, 'ipam') ?? {}, 'type', 'ipam.'))
    throw contradiction('disableContainerInterface', 'ipam', 'an interface that is down has no routes')
  return parsed
}

/** Stricter than the kernel's alphabet: the name is part of paths. @throws TsnetError TSNET_CONFIG, CNI code 7 */
export function parseBridgeName(raw: JsonObject): string {
  const name = optionalString(raw, 'bridge') || DEFAULT_BRIDGE
  if (!/^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,14}$/.test(name)) throw invalidField('bridge', name, 'a name of up to 15 letters, digits, "_", "." and "-"')
  return name
}

/** @returns Whether its ports are members of VLANs. */
export function hasVlans({ vlan, trunk }: BridgeConfig): boolean {
  return vlan !== undefined || trunk.length > 0
}

export function vlansOf({ vlan, trunk, preserveDefaultVlan }: BridgeConfig): PortVlans {
  return { native: vlan, tagged: trunk, keepDefault: preserveDefaultVlan }
}

/** @returns The VLANs of all entries, each once, those side by side together. */
function parseTrunk(raw: JsonObject): readonly PortVlan[] {
  const ids = (optionalObjects(raw, 'vlanTrunk') ?? []).flatMap((entry, i) => {
    const path = `vlanTrunk[${i}].`
    const read = (key: string) => optionalInteger(entry, key, { min: 1, max: LAST_VLAN, path })
    const [first, last, id] = [read('minID'), read('maxID'), read('id')]
    if ((first === undefined) !== (last === undefined))
      throw invalidField(`${path}${first === undefined ? 'minID' : 'maxID'}`, '', 'there beside the other one')
    if (first === undefined || last === undefined) return id === undefined ? [] : [id]
    if (last < first) throw invalidField(`${path}maxID`, last, `at least minID, ${first}`)
    return [...Array.from({ length: last - first + 1 }, (_, more) => first + more), ...(id === undefined ? [] : [id])]
  })
  return rangesOf(ids)
}

function rangesOf(ids: readonly number[]): readonly PortVlan[] {
  const ranges: PortVlan[] = []
  for (const id of [...new Set(ids)].sort((a, b) => a - b)) {
    const previous = ranges.at(-1)
    if (previous?.last === id - 1) ranges.splice(-1, 1, { ...previous, last: id })
    else ranges.push({ first: id, last: id, pvid: false, untagged: false })
  }
  return ranges
}

function contradiction(key: string, other: string, reason: string): TsnetError {
  return new TsnetError('TSNET_CONFIG', `Cannot have "${key}" together with "${other}": ${reason}`, { cniCode: CNI_CODE.invalidConfig })
}
