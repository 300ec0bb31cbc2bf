/** Packets of a container leave the host with the host's address, but not those to its own subnet: the reference plugins' `ipMasq`. */
import type { ValidAttachment } from '../cni/valid-attachments.ts'
import { hasIptables } from '../nat/iptables/program.ts'
import { Attempts } from '../plan/detach.ts'
import type { Owner } from '../plan/owner.ts'
import type { Family, IpPrefix } from '../wire/ip-address.ts'
import { addChain, masqueradedContainers, missingInChain, removeChain } from './masquerade-iptables.ts'
import { addRules, missingRules, removeOtherRules, removeRules } from './masquerade-nftables.ts'
import { hasNft } from './nft-script.ts'

const FAMILIES: readonly Family[] = [4, 6]

export type MasqueradeBackend = 'iptables' | 'nftables'

export interface Masquerade {
  readonly owner: Owner
  /** Each with its subnet's length. */
  readonly addresses: readonly IpPrefix[]
  /** Absent: iptables where it is installed, else nftables. */
  readonly backend?: MasqueradeBackend
}

/** @throws TsnetError when anything failed; then nothing is left of it. CNI code 50 when the backend's program is missing */
export function setUpMasquerade({ owner, addresses, backend = defaultBackend() }: Masquerade): void {
  if (backend === 'nftables') return addRules(owner, addresses)
  const done: Family[] = []
  try {
    for (const [family, own] of byFamily(addresses)) {
      addChain(family, owner, own)
      done.push(family)
    }
  } catch (error) {
    const errors = new Attempts()
    for (const family of done) errors.try(() => removeChain(family, owner, ofFamily(family, addresses)))
    errors.finish('Cannot take back what was written before')
    throw error
  }
}

/**
 * Whichever backend has set it up; what is gone already is no error.
 * @param addresses Those of the interface; with none, all that the network's interfaces in the container have.
 * @throws ErrorList with everything that could not be removed
 */
export function tearDownMasquerade(owner: Owner, addresses: readonly IpPrefix[]): void {
  const errors = new Attempts()
  const families = FAMILIES.filter((family) => hasIptables(family) && (addresses.length === 0 || ofFamily(family, addresses).length > 0))
  for (const family of families) errors.try(() => removeChain(family, owner, addresses.length === 0 ? undefined : ofFamily(family, addresses)))
  if (hasNft()) errors.try(() => removeRules(owner))
  errors.finish('Cannot remove the masquerading')
}

/** @returns What should be there and is not, as text. */
export function missingMasquerade({ owner, addresses, backend = defaultBackend() }: Masquerade): readonly string[] {
  if (backend === 'nftables') return missingRules(owner, addresses)
  return byFamily(addresses).flatMap(([family, own]) => missingInChain(family, owner, own))
}

/**
 * For GC: removes what containers of a network have left behind that are not listed, also what another program has set up.
 * @throws ErrorList with everything that could not be removed
 */
export function collectMasquerade(network: string, valid: readonly ValidAttachment[]): void {
  const errors = new Attempts()
  const stays = (id: string) => valid.some(({ containerID }) => containerID === id)
  for (const family of FAMILIES.filter(hasIptables)) {
    const stale = (errors.try(() => masqueradedContainers(family, network)) ?? []).filter((id) => !stays(id))
    for (const containerID of stale) errors.try(() => removeChain(family, { network, containerID }, undefined))
  }
  if (hasNft()) errors.try(() => removeOtherRules(network, valid))
  errors.finish(`Cannot collect the masquerading of network "${network}"`)
}

/** @returns Which backend a configuration without one has. */
export function defaultBackend(): MasqueradeBackend {
  return hasIptables(4) || !hasNft() ? 'iptables' : 'nftables'
}

function byFamily(addresses: readonly IpPrefix[]): readonly (readonly [Family, readonly IpPrefix[]])[] {
  return FAMILIES.map((family) => [family, ofFamily(family, addresses)] as const).filter(([, own]) => own.length > 0)
}

function ofFamily(family: Family, addresses: readonly IpPrefix[]): readonly IpPrefix[] {
  return addresses.filter(({ address }) => address.family === family)
}
