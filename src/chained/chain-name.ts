/** Names that the reference plugins give to what belongs to one container: other tools read them, and they find what those have made. */
import { sha512 } from './sha512.ts'

/** What an iptables chain's name may have. */
const LONGEST = 28
/** IFNAMSIZ without the zero at the end. */
const LONGEST_LINK = 15
/** XT_MAX_COMMENT_LEN of include/uapi/linux/netfilter/xt_comment.h, without the zero at the end. */
const LONGEST_COMMENT = 255

/**
 * @param prefix Stands before the digits: `CNI-` for masquerading, `CNI-DN-` for published ports.
 * @returns Prefix and hexadecimal digits of the sha512 of network and container id, 28 characters.
 * @see containernetworking/plugins pkg/utils/utils.go, FormatChainName
 */
export function formatChainName(network: string, containerID: string, prefix = 'CNI-'): string {
  return `${prefix}${sha512(network + containerID)}`.slice(0, LONGEST)
}

/**
 * @param parts Written one after the other: network and container id.
 * @returns A name for a link: the prefix and hexadecimal digits, 15 characters.
 * @see containernetworking/plugins pkg/utils/utils.go, MustFormatHashWithPrefix
 */
export function formatLinkName(prefix: string, ...parts: readonly string[]): string {
  return `${prefix}${sha512(parts.join(''))}`.slice(0, LONGEST_LINK)
}

/**
 * @returns The mark in the comments of rules, as Go prints it; cut where iptables would take no more.
 * @see containernetworking/plugins pkg/utils/utils.go, FormatComment
 */
export function formatComment(network: string, containerID: string, prefix = ''): string {
  return `${prefix}name: "${network}" id: "${containerID}"`.slice(0, LONGEST_COMMENT)
}

/** @param rule As iptables-save prints it. @returns Whose mark it carries, if any; none where the mark was cut. */
export function parseComment(rule: string): { readonly network: string; readonly containerID: string } | undefined {
  const [, network, containerID] = /--comment "(?:dnat )?name: \\"([a-zA-Z0-9_.-]+)\\" id: \\"([a-zA-Z0-9_.-]+)\\""/.exec(rule) ?? []
  return network === undefined || containerID === undefined ? undefined : { network, containerID }
}

/** Network and container id are hashed one after the other: "net" and "c1" have the names of "ne" and "tc1". @returns Whether a rule is marked as another container's */
export function isMarkedByAnother(rule: string, { network, containerID }: { readonly network: string; readonly containerID: string }): boolean {
  const mark = parseComment(rule)
  return mark !== undefined && (mark.network !== network || mark.containerID !== containerID)
}
