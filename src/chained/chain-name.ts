/** Names that the reference plugins give to what belongs to one container: other tools read them, and they find what those have made. */
import { createHash } from 'node:crypto'

/** What an iptables chain's name may have. */
const LONGEST = 28

/**
 * @param prefix Stands before the digits: `CNI-` for masquerading, `CNI-DN-` for published ports.
 * @returns Prefix and hexadecimal digits of the sha512 of network and container id, 28 characters.
 * @see containernetworking/plugins pkg/utils/utils.go, FormatChainName
 */
export function formatChainName(network: string, containerID: string, prefix = 'CNI-'): string {
  const digits = createHash('sha512').update(network).update(containerID).digest('hex')
  return `${prefix}${digits}`.slice(0, LONGEST)
}

/** @returns The mark in the comments of rules, as Go prints it. @see containernetworking/plugins pkg/utils/utils.go, FormatComment */
export function formatComment(network: string, containerID: string): string {
  return `name: "${network}" id: "${containerID}"`
}
