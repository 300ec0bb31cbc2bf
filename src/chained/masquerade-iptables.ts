/**
 * Masquerading in the rules of iptables, in the reference plugins' words: a chain for the container, and a jump for each address.
 * The chain's name does not tell interfaces apart, so it stays as long as an address of another interface leads to it.
 * @see containernetworking/plugins pkg/ip/ipmasq_iptables_linux.go
 */
import { type ChainRules, commentMatch, editTable, readTable } from '../nat/iptables/table-edit.ts'
import type { Owner } from '../plan/owner.ts'
import { type Family, formatPrefix, type IpPrefix, networkAddress, singlePrefix } from '../wire/ip-address.ts'
import { formatChainName, formatComment, isMarkedByAnother, parseComment } from './chain-name.ts'

const MULTICAST: Readonly<Record<Family, string>> = { 4: '224.0.0.0/4', 6: 'ff00::/8' }

type Container = Pick<Owner, 'network' | 'containerID'>

/** @param addresses Of one family, each with its subnet's length. */
export function addChain(family: Family, owner: Container, addresses: readonly IpPrefix[]): void {
  const { chain, inChain, jumps } = rulesOf(family, owner, addresses)
  const add = (rules: readonly string[], to: string) => rules.map((rule) => `-A ${to} ${rule}`)
  editTable(family, 'nat', {
    blind: [`-N ${chain}`, ...add(inChain, chain), ...add(jumps, 'POSTROUTING')],
    work: (chains) => {
      const own = chains.get(chain)
      const lacking = (rules: readonly string[], of = 'POSTROUTING') => rules.filter((rule) => chains.get(of)?.includes(rule) !== true)
      // What accepts a subnet has to stand in front of what masquerades all the rest.
      const rebuild = own === undefined || lacking(inChain, chain).length > 0
      const kept = (own ?? []).filter((rule) => !inChain.includes(rule) && rule.endsWith(' -j ACCEPT'))
      return [
        ...(own === undefined ? [`-N ${chain}`] : []),
        ...(rebuild ? [`-F ${chain}`, ...add([...kept, ...inChain], chain)] : []),
        ...add(lacking(jumps), 'POSTROUTING'),
      ]
    },
  })
}

/** @param addresses Undefined stands for all of the container's that lead to its chain. */
export function removeChain(family: Family, owner: Container, addresses: readonly IpPrefix[] | undefined): void {
  const { chain, jumps } = rulesOf(family, owner, addresses ?? [])
  const dropped = [`-F ${chain}`, `-X ${chain}`]
  const blind = addresses === undefined ? {} : { blind: [...jumps.map((rule) => `-D POSTROUTING ${rule}`), ...dropped] }
  editTable(family, 'nat', {
    ...blind,
    work: (chains) => {
      const present = jumpsTo(chain, chains)
      const unwanted = present.filter((rule) => (addresses === undefined ? !isMarkedByAnother(rule, owner) : jumps.includes(rule)))
      const drop = chains.has(chain) && unwanted.length === present.length
      return [...unwanted.map((rule) => `-D POSTROUTING ${rule}`), ...(drop ? dropped : [])]
    },
  })
}

/** @returns The rules that should be there and are not, as text. */
export function missingInChain(family: Family, owner: Container, addresses: readonly IpPrefix[]): readonly string[] {
  const { chain, inChain, jumps } = rulesOf(family, owner, addresses)
  const chains = readTable(family, 'nat')
  const lacking = (rules: readonly string[], of: string) =>
    rules.filter((rule) => chains.get(of)?.includes(rule) !== true).map((rule) => `nat: -A ${of} ${rule}`)
  return [...lacking(inChain, chain), ...lacking(jumps, 'POSTROUTING')]
}

/** @returns The containers of a network to which rules of masquerading belong. */
export function masqueradedContainers(family: Family, network: string): readonly string[] {
  const rules = readTable(family, 'nat').get('POSTROUTING') ?? []
  const found = rules.flatMap((rule) => {
    const mark = parseComment(rule)
    return mark?.network === network && rule.endsWith(` -j ${formatChainName(network, mark.containerID)}`) ? [mark.containerID] : []
  })
  return [...new Set(found)]
}

function rulesOf(family: Family, { network, containerID }: Container, addresses: readonly IpPrefix[]) {
  const chain = formatChainName(network, containerID)
  const mark = commentMatch(formatComment(network, containerID))
  const host = ({ address }: IpPrefix) => formatPrefix(singlePrefix(address))
  const subnets = new Set(addresses.map((prefix) => formatPrefix({ ...prefix, address: networkAddress(prefix) })))
  return {
    chain,
    inChain: [...[...subnets].map((subnet) => `-d ${subnet} ${mark} -j ACCEPT`), `! -d ${MULTICAST[family]} ${mark} -j MASQUERADE`],
    jumps: addresses.map((prefix) => `-s ${host(prefix)} ${mark} -j ${chain}`),
  }
}

function jumpsTo(chain: string, chains: ChainRules): readonly string[] {
  return (chains.get('POSTROUTING') ?? []).filter((rule) => rule.endsWith(` -j ${chain}`))
}
