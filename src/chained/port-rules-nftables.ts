/**
 * Published ports in the tables of nftables that all networks of the reference plugin share, one for each family: a rule for each
 * port, marked as the container's.
 * @see containernetworking/plugins plugins/meta/portmap/portmap_nftables.go
 */
import { isObject } from '../cni/json.ts'
import type { PublishedPort } from '../nat/model.ts'
import { type Family, formatAddress, formatPrefix, networkAddress, parseAddress } from '../wire/ip-address.ts'
import { type NftRule, type NftTable, nftComment } from './nft-script.ts'
import { type FoundPort, type PortRules, portsIn } from './port-rules.ts'

const PORTS = 'hostports'
const MASQUERADING = 'masquerading'

export function tableOf(family: Family): NftTable {
  return { family: family === 4 ? 'ip' : 'ip6', name: 'cni_hostport' }
}

/** @returns The commands that write the rules, those that an ADD of the same interface left behind taken away. */
export function addCommands(family: Family, rules: PortRules, present: readonly NftRule[]): readonly string[] {
  const table = named(family)
  const local = `fib daddr type local jump hostports_all`
  const base = (chain: string, hook: string, priority: number) => `add chain ${table} ${chain} { type nat hook ${hook} priority ${priority} ; }`
  return [
    `add table ${table}`,
    ...[PORTS, 'hostip_hostports', 'hostports_all'].map((chain) => `add chain ${table} ${chain}`),
    base('prerouting', 'prerouting', -100),
    base('output', 'output', -100),
    base(MASQUERADING, 'postrouting', 100),
    ...['hostports_all', 'prerouting', 'output'].map((chain) => `flush chain ${table} ${chain}`),
    ...['hostip_hostports', PORTS].map((chain) => `add rule ${table} hostports_all jump ${chain}`),
    ...['prerouting', 'output'].map((chain) => `add rule ${table} ${chain} ${local}`),
    ...removeCommands(family, rules, present),
    ...rulesOf(family, rules).map(({ chain, text }) => `add rule ${table} ${chain} ${text} comment "${nftComment(rules.containerID)}"`),
  ]
}

/** @returns The commands that delete what leads to the interface's addresses; all of the container's when it is not known which those are. */
export function removeCommands(family: Family, rules: Pick<PortRules, 'containerID' | 'targets'>, present: readonly NftRule[]): readonly string[] {
  return ownRules(family, rules, present).map(({ chain, handle }) => `delete rule ${named(family)} ${chain} handle ${handle}`)
}

/** @returns The rules that should be there and are not, as text. */
export function missingCommands(family: Family, rules: PortRules, present: readonly NftRule[]): readonly string[] {
  const own = ownRules(family, rules, present)
  const found = own.flatMap((rule) => parsePort(family, rule))
  const has = (port: PublishedPort) =>
    found.some(
      ({ protocol, hostPort, hostAddress }) =>
        protocol === port.protocol && hostPort === port.hostPort && hostAddress?.value === port.hostAddress?.value,
    )
  const hooked = (chain: string) => present.some((rule) => rule.chain === chain && JSON.stringify(rule.expr).includes('"hostports_all"'))
  const wanted = rulesOf(family, rules)
  const masquerading = wanted.filter(({ chain }) => chain === MASQUERADING)
  return [
    ...['prerouting', 'output'].filter((chain) => !hooked(chain)).map((chain) => `${named(family)} ${chain}: jump hostports_all`),
    ...wanted.filter(({ port }) => port !== undefined && !has(port)).map(({ text }) => `${named(family)} ${PORTS}: ${text}`),
    ...masquerading.slice(own.filter(({ chain }) => chain === MASQUERADING).length).map(({ text }) => `${named(family)} ${MASQUERADING}: ${text}`),
  ]
}

/** @returns The host ports of all containers; those under conditions are shared, and left out. */
export function publishedByNft(family: Family, present: readonly NftRule[]): readonly FoundPort[] {
  return present
    .filter(({ chain, expr }) => chain === PORTS && expr.every((part) => !isObject(part) || !('match' in part) || isPortMatch(part['match'])))
    .flatMap((rule) => parsePort(family, rule).map((port) => ({ port, containerID: rule.comment ?? '' })))
}

interface Rule {
  readonly chain: string
  readonly text: string
  readonly port?: PublishedPort
}

/** The translation tells a published connection from one within the subnet, which a bridge may show to these rules too. */
function rulesOf(family: Family, rules: PortRules): readonly Rule[] {
  const { options, targets } = rules
  const ip = family === 4 ? 'ip' : 'ip6'
  const conditions = options.conditions[family].map((word) => `${word} `).join('')
  const ports = portsIn(family, rules).map((port): Rule => {
    const { protocol, hostAddress, hostPort, address, containerPort } = port
    const at = hostAddress === undefined ? '' : `${ip} daddr ${formatAddress(hostAddress)} `
    const to = family === 6 ? `[${formatAddress(address)}]` : formatAddress(address)
    return { chain: PORTS, text: `${conditions}${at}${protocol} dport ${hostPort} dnat to ${to}:${containerPort}`, port }
  })
  const translated = options.snat ? targets.filter(({ address }) => address.family === family) : []
  const masquerading = translated.flatMap((prefix): readonly Rule[] => {
    const to = `${ip} daddr ${formatAddress(prefix.address)} ct status dnat masquerade`
    if (options.masqAll) return [{ chain: MASQUERADING, text: to }]
    const subnet = `${ip} saddr ${formatPrefix({ ...prefix, address: networkAddress(prefix) })} ${to}`
    return [subnet, ...(family === 4 ? [`ip saddr 127.0.0.1 ${to}`] : [])].map((text) => ({ chain: MASQUERADING, text }))
  })
  return [...ports, ...masquerading]
}

function ownRules(
  family: Family,
  { containerID, targets }: Pick<PortRules, 'containerID' | 'targets'>,
  present: readonly NftRule[],
): readonly NftRule[] {
  const addresses = targets.filter(({ address }) => address.family === family).map(({ address }) => `"${formatAddress(address)}"`)
  const leads = ({ expr }: NftRule) => targets.length === 0 || addresses.some((address) => JSON.stringify(expr).includes(address))
  return present.filter((rule) => (rule.chain === PORTS || rule.chain === MASQUERADING) && rule.comment === nftComment(containerID) && leads(rule))
}

/** A match of the rule's own, which is no condition. */
function isPortMatch(match: unknown): boolean {
  const payload = payloadOf(match)
  return payload?.field === 'dport' || payload?.field === 'daddr'
}

function parsePort(family: Family, { expr }: NftRule): readonly PublishedPort[] {
  const matches = expr.flatMap((part) => (isObject(part) && 'match' in part ? [part['match']] : []))
  const found = matches.map((match) => ({ ...payloadOf(match), right: isObject(match) ? match['right'] : undefined }))
  const port = found.find(({ field }) => field === 'dport')
  const at = found.find(({ field }) => field === 'daddr')?.right
  if (port === undefined || typeof port.right !== 'number') return []
  const hostAddress = typeof at === 'string' ? parseAddress(at) : undefined
  const any = { family, value: 0n }
  const protocol = port.protocol as PublishedPort['protocol']
  return [{ protocol, ...(hostAddress && { hostAddress }), hostPort: port.right, count: 1, address: any, containerPort: 1 }]
}

function payloadOf(match: unknown): { readonly protocol: unknown; readonly field: unknown } | undefined {
  const left = isObject(match) ? match['left'] : undefined
  const payload = isObject(left) ? left['payload'] : undefined
  return isObject(payload) ? { protocol: payload['protocol'], field: payload['field'] } : undefined
}

function named(family: Family): string {
  const table = tableOf(family)
  return `${table.family} ${table.name}`
}
