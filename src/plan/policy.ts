/** Who may reach whom in a network, beyond what every network has: as configured, as recorded, and as a part of the rules. Pure. */
import type { AttachmentRules, NetworkRules, PublishedPort } from '../nat/model.ts'
import { parseAddress, parsePrefix } from '../wire/ip-address.ts'
import type { NetworkRecord } from './network.ts'
import { type Owner, ownerMarkText } from './owner.ts'

/** As it is written into `network.json`. */
export interface NetworkPolicy {
  /** Whether containers of the bridge reach each other. */
  readonly icc: boolean
  /** Whether nothing passes between the bridge and other links. */
  readonly internal: boolean
  /** Whether published ports answer at the container's own address too. */
  readonly routed: boolean
  /** What packets leave with, at most one address of each family; none: with the address of the link. */
  readonly snat: readonly string[]
  /** `address/length`: who reaches all ports of the containers from other links. */
  readonly trusted: readonly string[]
}

export const OPEN_POLICY: NetworkPolicy = { icc: true, internal: false, routed: false, snat: [], trusted: [] }

/** @returns Whether two networks have the same policy. */
export function samePolicy(a: NetworkPolicy, b: NetworkPolicy): boolean {
  return (
    a.icc === b.icc && a.internal === b.internal && a.routed === b.routed && a.snat.join() === b.snat.join() && a.trusted.join() === b.trusted.join()
  )
}

/** @returns The network's part of the rules; none when its bridge is no gateway. */
export function rulesOfNetwork({ bridge, masquerade, gateway, subnets, policy = OPEN_POLICY }: NetworkRecord): readonly NetworkRules[] {
  if (!gateway) return []
  const { icc, internal } = policy
  const snat = policy.snat.flatMap((text) => parseAddress(text) ?? [])
  const trusted = policy.trusted.flatMap((text) => parsePrefix(text) ?? [])
  return [{ bridge, masquerade, snat, icc, internal, trusted, subnets: subnets.flatMap((text) => parsePrefix(text) ?? []) }]
}

/** @returns The attachment's part of the rules, as far as these ports go. */
export function rulesOfAttachment(attachment: Owner & { readonly direct?: boolean }, ports: readonly PublishedPort[]): AttachmentRules {
  return { owner: ownerMarkText(attachment), ports, direct: attachment.direct === true }
}
