/** The attachment as a key: one interface of one container in one network. */

export interface Owner {
  readonly network: string
  readonly containerID: string
  readonly ifname: string
}

/** @returns `network/containerID:ifname`: in rules, claims, aliases and messages. */
export function ownerText(owner: Owner): string {
  return `${owner.network}/${owner.containerID}:${owner.ifname}`
}

/**
 * The name of the host's end of the veth pair follows from the owner, so that DEL finds it when everything else is lost.
 * @returns `tsn` and 12 hex digits: the 15 bytes that an interface name may have.
 */
export function hostVethName(owner: Owner): string {
  return `tsn${fingerprint(ownerText(owner))}`
}

/** @returns The name of the link by which what the container sends takes a detour, as long. */
export function detourName(owner: Owner): string {
  return `tsi${fingerprint(ownerText(owner))}`
}

/** @returns The mark in comments of rules: the text, cut short with its fingerprint where it would not fit into the 127 bytes of an nftables comment. */
export function ownerMarkText(owner: Owner): string {
  const text = ownerText(owner)
  return text.length <= 120 ? text : `${text.slice(0, 100)}~${fingerprint(text)}`
}

/** FNV-1a with 64 bits, of which the upper 48 are used. @returns 12 hex digits */
function fingerprint(text: string): string {
  let hash = 0xcbf29ce484222325n
  for (const byte of Buffer.from(text)) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn
  return (hash >> 16n).toString(16).padStart(12, '0')
}
