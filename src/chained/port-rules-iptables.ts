/**
 * Published ports in the rules of iptables, in the reference plugin's words: a chain for the container, to which rules lead that
 * name up to 15 ports each, and chains for all containers that mark and masquerade. Pure.
 * @see containernetworking/plugins plugins/meta/portmap/portmap_iptables.go
 */
import { type ChainRules, commentMatch } from '../nat/iptables/table-edit.ts'
import type { PublishedPort } from '../nat/model.ts'
import { type Family, formatAddress, formatPrefix, type IpAddress, networkAddress, parseAddress, singlePrefix } from '../wire/ip-address.ts'
import { formatChainName, formatComment, isMarkedByAnother, parseComment } from './chain-name.ts'
import { type FoundPort, type PortRuleOptions, type PortRules, portsIn } from './port-rules.ts'

const PUBLISHED = 'CNI-HOSTPORT-DNAT'
const SET_MARK = 'CNI-HOSTPORT-SETMARK'
const MASQUERADE = 'CNI-HOSTPORT-MASQ'
const CHAIN_PREFIX = 'CNI-DN-'
/** XT_MULTI_PORTS of include/uapi/linux/netfilter/xt_multiport.h. */
const MOST_PORTS = 15
const ANY: Readonly<Record<Family, IpAddress>> = { 4: { family: 4, value: 0n }, 6: { family: 6, value: 0n } }

interface Rule {
  readonly chain: string
  /** What follows `-A CHAIN `. */
  readonly spec: string
  readonly first?: true
}

/** @returns The lines that add what is missing. @param siblings Whether another interface of the container has ports in the chain */
export function addLines(family: Family, rules: PortRules, siblings: boolean): (chains: ChainRules) => readonly string[] {
  const { chain, entries, targets } = rulesOf(family, rules)
  const shared = sharedRules(rules.options)
  return (chains) => {
    const stale = siblings ? [] : leadingTo(chain, chains).map((spec) => `-D ${PUBLISHED} ${spec}`)
    const empty = siblings || !chains.has(chain) ? [] : [`-F ${chain}`]
    const missing = [PUBLISHED, ...(marksItself(rules.options) ? [SET_MARK, MASQUERADE] : []), chain].filter((name) => !chains.has(name))
    const lacking = shared.filter(({ chain: of, spec }) => chains.get(of)?.includes(spec) !== true)
    return [...missing.map((name) => `-N ${name}`), ...stale, ...empty, ...[...lacking, ...targets, ...entries].map(addition)]
  }
}

/** @returns Lines that are right unless somebody else has been at the rules. @param siblings As for addLines() */
export function removeLines(family: Family, rules: PortRules, siblings: boolean): readonly string[] {
  const { chain, entries, targets } = rulesOf(family, rules)
  const unwanted = siblings ? [...entries, ...targets] : entries
  return [...unwanted.map(({ chain: of, spec }) => `-D ${of} ${spec}`), ...(siblings ? [] : [`-F ${chain}`, `-X ${chain}`])]
}

/** @returns The same, from what is there. */
export function removePresentLines(family: Family, rules: PortRules, siblings: boolean): (chains: ChainRules) => readonly string[] {
  const { chain, entries, targets } = rulesOf(family, rules)
  if (!siblings) return (chains) => removeChainLines(chain, chains)
  return (chains) => [
    ...leadingTo(chain, chains)
      .filter((spec) => entries.some(({ marker }) => spec.includes(marker)))
      .map((spec) => `-D ${PUBLISHED} ${spec}`),
    ...targets.filter(({ spec }) => chains.get(chain)?.includes(spec) === true).map(({ spec }) => `-D ${chain} ${spec}`),
  ]
}

/** @returns Lines that remove a container's chain with all that leads to it, unless that is another container's. */
export function removeContainerLines(network: string, containerID: string): (chains: ChainRules) => readonly string[] {
  const chain = formatChainName(network, containerID, CHAIN_PREFIX)
  const isOthers = (chains: ChainRules) => leadingTo(chain, chains).some((rule) => isMarkedByAnother(rule, { network, containerID }))
  return (chains) => (isOthers(chains) ? [] : removeChainLines(chain, chains))
}

/** @returns The rules that should be there and are not, as text. */
export function missingLines(family: Family, rules: PortRules, chains: ChainRules): readonly string[] {
  const { chain, entries, targets } = rulesOf(family, rules)
  const present = leadingTo(chain, chains)
  const lacking = [...sharedRules(rules.options), ...targets].filter(({ chain: of, spec }) => chains.get(of)?.includes(spec) !== true)
  // The words of conditions may be printed otherwise than they were written.
  const lackingEntries = entries.filter(({ marker }) => !present.some((spec) => spec.includes(marker)))
  return [...lacking, ...lackingEntries].map(({ chain: of, spec }) => `nat: -A ${of} ${spec}`)
}

/** @returns The host ports of all other chains; those under conditions are shared, and left out. */
export function publishedPorts(family: Family, { network, containerID }: PortRules, chains: ChainRules): readonly FoundPort[] {
  const own = formatChainName(network, containerID, CHAIN_PREFIX)
  const holders = new Map<string, string>()
  for (const spec of chains.get(PUBLISHED) ?? []) {
    const [, chain] = /^-p \w+ -m comment --comment "(?:[^"\\]|\\.)*" -m multiport --dports [\d,]+ -j (CNI-DN-\w+)$/.exec(spec) ?? []
    if (chain !== undefined && chain !== own) holders.set(chain, parseComment(spec)?.containerID ?? '')
  }
  return [...holders].flatMap(([chain, id]) =>
    (chains.get(chain) ?? []).flatMap((spec) => parseTarget(family, spec) ?? []).map((port) => ({ port, containerID: id })),
  )
}

/** @returns The containers of a network whose ports are in the rules. */
export function publishingContainers(network: string, chains: ChainRules): readonly string[] {
  const found = (chains.get(PUBLISHED) ?? []).flatMap((spec) => {
    const mark = parseComment(spec)
    return mark?.network === network ? [mark.containerID] : []
  })
  return [...new Set(found)]
}

function rulesOf(family: Family, rules: PortRules) {
  const { network, containerID, options } = rules
  const chain = formatChainName(network, containerID, CHAIN_PREFIX)
  const comment = commentMatch(formatComment(network, containerID, 'dnat '))
  const conditions = options.conditions[family].map((word) => `${word} `).join('')
  const ports = portsIn(family, rules)
  const entries = groupsOf(ports).map(({ protocol, numbers }) => {
    const marker = `-p ${protocol} ${comment} -m multiport --dports ${numbers.join(',')} `
    return { chain: PUBLISHED, spec: `-p ${protocol} ${comment} -m multiport --dports ${numbers.join(',')} ${conditions}-j ${chain}`, marker }
  })
  return { chain, entries, targets: ports.flatMap((port) => targetRules(port, rules)).map((spec): Rule => ({ chain, spec })) }
}

function targetRules(port: PublishedPort, { targets, options }: PortRules): readonly string[] {
  const { protocol, hostAddress, hostPort, address, containerPort } = port
  const at = hostAddress === undefined ? '' : `-d ${host(hostAddress)} `
  const match = `${at}-p ${protocol} -m ${protocol} --dport ${hostPort}`
  const mark = `-j ${'chain' in options.mark ? options.mark.chain : SET_MARK}`
  const target = targets.find((prefix) => prefix.address.family === address.family && prefix.address.value === address.value)
  const subnet = target && formatPrefix({ ...target, address: networkAddress(target) })
  const sources = options.masqAll ? [''] : [...(subnet === undefined ? [] : [`-s ${subnet} `]), ...(address.family === 4 ? ['-s 127.0.0.1/32 '] : [])]
  const to = address.family === 6 ? `[${formatAddress(address)}]` : formatAddress(address)
  return [...(options.snat ? sources.map((source) => `${source}${match} ${mark}`) : []), `${match} -j DNAT --to-destination ${to}:${containerPort}`]
}

/** What holds for all containers. */
function sharedRules(options: PortRuleOptions): readonly Rule[] {
  const local = `-m addrtype --dst-type LOCAL -j ${PUBLISHED}`
  const jumps: Rule[] = [
    { chain: 'PREROUTING', spec: local },
    { chain: 'OUTPUT', spec: local },
  ]
  if (!marksItself(options) || !('bit' in options.mark)) return jumps
  const bit = `0x${(2 ** options.mark.bit).toString(16)}/0x${(2 ** options.mark.bit).toString(16)}`
  return [
    ...jumps,
    { chain: SET_MARK, spec: `-m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark ${bit}` },
    { chain: MASQUERADE, spec: `-m mark --mark ${bit} -j MASQUERADE` },
    // Ahead of masquerading, which would let packets within a subnet pass as they are.
    { chain: 'POSTROUTING', spec: `-m comment --comment "CNI portfwd requiring masquerade" -j ${MASQUERADE}`, first: true },
  ]
}

function marksItself({ snat, mark }: PortRuleOptions): boolean {
  return snat && 'bit' in mark
}

/** One group for each protocol, in their alphabetical order, and no more ports in it than a rule can name. */
function groupsOf(ports: readonly PublishedPort[]): readonly { readonly protocol: string; readonly numbers: readonly number[] }[] {
  const protocols = [...new Set(ports.map(({ protocol }) => protocol))].sort()
  return protocols.flatMap((protocol) => {
    const numbers = [...new Set(ports.filter((port) => port.protocol === protocol).map(({ hostPort }) => hostPort))]
    const count = Math.ceil(numbers.length / MOST_PORTS)
    return Array.from({ length: count }, (_, i) => ({ protocol, numbers: numbers.slice(i * MOST_PORTS, (i + 1) * MOST_PORTS) }))
  })
}

function removeChainLines(chain: string, chains: ChainRules): readonly string[] {
  const drop = chains.has(chain) ? [`-F ${chain}`, `-X ${chain}`] : []
  return [...leadingTo(chain, chains).map((spec) => `-D ${PUBLISHED} ${spec}`), ...drop]
}

function leadingTo(chain: string, chains: ChainRules): readonly string[] {
  return (chains.get(PUBLISHED) ?? []).filter((spec) => spec.endsWith(` -j ${chain}`))
}

function parseTarget(family: Family, spec: string): PublishedPort | undefined {
  const [, host, protocol, port] = /^(?:-d (\S+)\/\d+ )?-p (tcp|udp|sctp) -m \w+ --dport (\d+) -j DNAT /.exec(spec) ?? []
  if (protocol === undefined) return undefined
  const hostAddress = host === undefined ? undefined : parseAddress(host)
  const at = { protocol: protocol as PublishedPort['protocol'], hostPort: Number(port), count: 1, address: ANY[family], containerPort: 1 }
  return { ...at, ...(hostAddress && { hostAddress }) }
}

function addition({ chain, spec, first }: Rule): string {
  return `${first === true ? '-I' : '-A'} ${chain} ${spec}`
}

function host(address: IpAddress): string {
  return formatPrefix(singlePrefix(address))
}
