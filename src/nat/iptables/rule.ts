/**
 * The rules as data, in the very words in which iptables-save prints them, so that a rule can be looked up by its text.
 * Every word is made from checked values: addresses, numbers, names of a fixed alphabet.
 */
import { type Family, formatAddress, formatPrefix, type IpAddress, type IpPrefix, networkAddress, singlePrefix } from '../../wire/ip-address.ts'
import { type AttachmentRules, directPorts, type NetworkRules, type Protocol, type PublishedPort } from '../model.ts'

export type TableName = 'raw' | 'nat' | 'filter'

export interface Rule {
  readonly table: TableName
  readonly chain: string
  /** What follows `-A CHAIN `. */
  readonly spec: string
  /**
   * Goes to the head of its chain: our jump out of a built-in one, and what must stand before another rule of ours. So a
   * rule that somebody deleted comes back to the right side of it.
   */
  readonly first?: true
}

/** The administrator's chain: it comes first, and tsnet never writes into it. */
export const USER_CHAIN = 'TSNET-USER'

/** Our chains of each table. */
export const CHAINS: Readonly<Record<TableName, readonly string[]>> = {
  raw: ['TSNET-RAW'],
  nat: ['TSNET-DNAT', 'TSNET-HAIRPIN', 'TSNET-MASQ'],
  filter: ['TSNET-FORWARD', USER_CHAIN, 'TSNET-DENY', 'TSNET-TO', 'TSNET-FROM'],
}

const LOOPBACK: Readonly<Record<Family, string>> = { 4: '127.0.0.0/8', 6: '::1/128' }
const MULTICAST: Readonly<Record<Family, string>> = { 4: '224.0.0.0/4', 6: 'ff00::/8' }

/** The jumps out of the built-in chains, and what holds for every network. Those of one chain of ours stand in this order. */
export function baseRules(family: Family): readonly Rule[] {
  const local = '-m addrtype --dst-type LOCAL -j TSNET-DNAT'
  // The kernel lets no packet from ::1 out of lo, so a translated one would be lost: who asks ::1 must be refused, and try 127.0.0.1.
  const own = family === 6 ? `! -d ${LOOPBACK[6]} ${local}` : local
  const rules: Rule[] = [
    { table: 'nat', chain: 'PREROUTING', spec: local },
    { table: 'nat', chain: 'OUTPUT', spec: own },
    { table: 'nat', chain: 'POSTROUTING', spec: '-j TSNET-HAIRPIN' },
    { table: 'nat', chain: 'POSTROUTING', spec: '-j TSNET-MASQ' },
    { table: 'filter', chain: 'FORWARD', spec: '-j TSNET-FORWARD', first: true },
    ...[USER_CHAIN, 'TSNET-DENY', 'TSNET-TO', 'TSNET-FROM'].map((chain): Rule => ({ table: 'filter', chain: 'TSNET-FORWARD', spec: `-j ${chain}` })),
  ]
  if (family === 6) return rules
  // route_localnet on a bridge lets 127.0.0.1 reach a container; without this, a container could send to the host's 127.0.0.1.
  const raw: Rule[] = [
    { table: 'raw', chain: 'PREROUTING', spec: '-j TSNET-RAW', first: true },
    { table: 'raw', chain: 'TSNET-RAW', spec: `-d ${LOOPBACK[4]} ! -i lo -j DROP` },
  ]
  return [...raw, ...rules]
}

/** What a network needs: the way out with the host's address, the way in for answers and published ports only. */
export function networkRules(family: Family, network: NetworkRules): readonly Rule[] {
  const subnets = network.subnets.filter((subnet) => subnet.address.family === family)
  return subnets.length === 0 ? [] : [...translations(family, network, subnets), ...filters(family, network)]
}

function translations(family: Family, { bridge, masquerade, snat }: NetworkRules, subnets: readonly IpPrefix[]): readonly Rule[] {
  const nat = (chain: string, spec: string): Rule => ({ table: 'nat', chain, spec })
  const source = snat.find((address) => address.family === family)
  const target = source === undefined ? 'MASQUERADE' : `SNAT --to-source ${formatAddress(source)}`
  return [
    // A published port reached from its own bridge: the answer must come back through the host, which alone knows the translation.
    ...subnets.map((subnet) => nat('TSNET-HAIRPIN', `-s ${text(subnet)} -o ${bridge} -m conntrack --ctstate DNAT -j MASQUERADE`)),
    ...(family === 4 ? [nat('TSNET-HAIRPIN', `-s ${LOOPBACK[4]} -o ${bridge} -j MASQUERADE`)] : []),
    // Towards any of our networks packets keep their address, so that a server sees its client.
    { ...nat('TSNET-MASQ', `-o ${bridge} -j RETURN`), first: true },
    ...(masquerade ? subnets.map((subnet) => nat('TSNET-MASQ', `-s ${text(subnet)} ! -d ${MULTICAST[family]} -j ${target}`)) : []),
  ]
}

function filters(family: Family, { bridge, icc, internal, trusted }: NetworkRules): readonly Rule[] {
  const rule = (chain: string, spec: string): Rule => ({ table: 'filter', chain, spec })
  const first = (spec: string): Rule => ({ ...rule('TSNET-TO', spec), first: true })
  const sources = trusted.filter((prefix) => prefix.address.family === family)
  return [
    // A packet that belongs to no connection would leave with the container's own address.
    rule('TSNET-DENY', `-i ${bridge} -m conntrack --ctstate INVALID -j DROP`),
    ...(internal ? [rule('TSNET-DENY', `-i ${bridge} ! -o ${bridge} -j DROP`), rule('TSNET-DENY', `! -i ${bridge} -o ${bridge} -j DROP`)] : []),
    ...sources.map((prefix) => first(`${from(prefix)}-o ${bridge} -j ACCEPT`)),
    first(`-o ${bridge} -m conntrack --ctstate DNAT -j ACCEPT`),
    first(`-o ${bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`),
    rule('TSNET-TO', icc ? `! -i ${bridge} -o ${bridge} -j DROP` : `-o ${bridge} -j DROP`),
    rule('TSNET-FROM', `-i ${bridge} -j ACCEPT`),
  ]
}

/** What an attachment needs: one rule for each published port or range, and for each prefix that alone may connect. */
export function attachmentRules(family: Family, attachment: AttachmentRules): readonly Rule[] {
  const mark = `-m comment ${ownerMark(attachment.owner)}`
  const own = (port: PublishedPort) => port.address.family === family
  const published = attachment.ports.filter(own).flatMap((port) => publish(port, mark))
  const direct = directPorts(attachment)
    .filter(own)
    .flatMap((port) => accept(port, mark))
  return [
    ...published.map((spec): Rule => ({ table: 'nat', chain: 'TSNET-DNAT', spec })),
    ...direct.map((spec): Rule => ({ table: 'filter', chain: 'TSNET-TO', spec, first: true })),
  ]
}

/** @returns What every rule of this attachment contains and no other rule does. */
export function ownerMark(owner: string): string {
  // An interface's name may hold quotes and backslashes: escaped as iptables-save does, which is what iptables-restore undoes.
  return `--comment "tsnet:${owner.replace(/["'\\]/g, '\\$&')}"`
}

function publish(port: PublishedPort, mark: string): readonly string[] {
  const to = port.hostAddress === undefined ? '' : `-d ${host(port.hostAddress)} `
  return sources(port).map(
    (source) => `${source}${to}${service(port.protocol, port.hostPort, port.count)} ${mark} -j DNAT --to-destination ${target(port)}`,
  )
}

function accept(port: PublishedPort, mark: string): readonly string[] {
  return sources(port).map(
    (source) => `${source}-d ${host(port.address)} ${service(port.protocol, port.containerPort, port.count)} ${mark} -j ACCEPT`,
  )
}

/** @returns The words of a rule for each prefix that may connect. */
function sources({ allow }: PublishedPort): readonly string[] {
  return allow?.map(from) ?? ['']
}

/** A prefix of length 0 is everybody, for which iptables has no words. */
function from(prefix: IpPrefix): string {
  return prefix.prefixLength === 0 ? '' : `-s ${text(prefix)} `
}

function service(protocol: Protocol, first: number, count: number): string {
  return `-p ${protocol} -m ${protocol} --dport ${count === 1 ? first : `${first}:${first + count - 1}`}`
}

function host(address: IpAddress): string {
  return formatPrefix(singlePrefix(address))
}

/** A range keeps each port's distance from the first: `9000-9010/8000`. */
function target(port: PublishedPort): string {
  const address = formatAddress(port.address)
  const bracketed = port.address.family === 6 ? `[${address}]` : address
  if (port.count === 1) return `${bracketed}:${port.containerPort}`
  const range = `${port.containerPort}-${port.containerPort + port.count - 1}`
  return port.containerPort === port.hostPort ? `${bracketed}:${range}` : `${bracketed}:${range}/${port.hostPort}`
}

function text(prefix: IpPrefix): string {
  return formatPrefix({ address: networkAddress(prefix), prefixLength: prefix.prefixLength })
}
