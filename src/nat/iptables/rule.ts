/**
 * The rules as data, in the very words in which iptables-save prints them, so that a rule can be looked up by its text.
 * Every word is made from checked values: addresses, numbers, names of a fixed alphabet.
 */
import { addressBits, type Family, formatAddress, formatPrefix, type IpPrefix, networkAddress } from '../../wire/ip-address.ts'
import type { AttachmentRules, NetworkRules, PublishedPort } from '../model.ts'

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

/** Our chains of each table. */
export const CHAINS: Readonly<Record<TableName, readonly string[]>> = {
  raw: ['TSNET-RAW'],
  nat: ['TSNET-DNAT', 'TSNET-MASQ'],
  filter: ['TSNET-FORWARD', 'TSNET-TO', 'TSNET-FROM'],
}

const LOOPBACK: Readonly<Record<Family, string>> = { 4: '127.0.0.0/8', 6: '::1/128' }
const MULTICAST: Readonly<Record<Family, string>> = { 4: '224.0.0.0/4', 6: 'ff00::/8' }

/** The jumps out of the built-in chains, and what holds for every network. */
export function baseRules(family: Family): readonly Rule[] {
  const local = '-m addrtype --dst-type LOCAL -j TSNET-DNAT'
  // The kernel lets no packet from ::1 out of lo, so a translated one would be lost: who asks ::1 must be refused, and try 127.0.0.1.
  const own = family === 6 ? `! -d ${LOOPBACK[6]} ${local}` : local
  const rules: Rule[] = [
    { table: 'nat', chain: 'PREROUTING', spec: local },
    { table: 'nat', chain: 'OUTPUT', spec: own },
    { table: 'nat', chain: 'POSTROUTING', spec: '-j TSNET-MASQ' },
    { table: 'filter', chain: 'FORWARD', spec: '-j TSNET-FORWARD', first: true },
    { table: 'filter', chain: 'TSNET-FORWARD', spec: '-j TSNET-TO', first: true },
    { table: 'filter', chain: 'TSNET-FORWARD', spec: '-j TSNET-FROM' },
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
  const { bridge } = network
  const subnets = network.subnets.filter((subnet) => subnet.address.family === family)
  if (subnets.length === 0) return []
  const to = (spec: string): Rule => ({ table: 'filter', chain: 'TSNET-TO', spec })
  const masquerade = (spec: string): Rule => ({ table: 'nat', chain: 'TSNET-MASQ', spec: `${spec} -j MASQUERADE` })
  const out = (subnet: IpPrefix) => masquerade(`-s ${text(subnet)} ! -d ${MULTICAST[family]} ! -o ${bridge}`)
  // A published port reached from its own bridge: the answer must come back through the host, which alone knows the translation.
  const hairpin = (subnet: IpPrefix) => masquerade(`-s ${text(subnet)} -o ${bridge} -m conntrack --ctstate DNAT`)
  return [
    ...(network.masquerade ? subnets.map(out) : []),
    ...subnets.map(hairpin),
    ...(family === 4 ? [masquerade(`-s ${LOOPBACK[4]} -o ${bridge}`)] : []),
    { ...to(`-o ${bridge} -m conntrack --ctstate DNAT -j ACCEPT`), first: true },
    { ...to(`-o ${bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`), first: true },
    to(`! -i ${bridge} -o ${bridge} -j DROP`),
    { table: 'filter', chain: 'TSNET-FROM', spec: `-i ${bridge} -j ACCEPT` },
  ]
}

/** What an attachment needs: one rule for each published port or range. */
export function attachmentRules(family: Family, attachment: AttachmentRules): readonly Rule[] {
  return attachment.ports
    .filter((port) => port.address.family === family)
    .map((port) => ({ table: 'nat', chain: 'TSNET-DNAT', spec: publish(port, attachment.owner) }))
}

/** @returns What every rule of this attachment contains and no other rule does. */
export function ownerMark(owner: string): string {
  return `--comment "tsnet:${owner}"`
}

function publish(port: PublishedPort, owner: string): string {
  const last = port.hostPort + port.count - 1
  const to = port.hostAddress === undefined ? '' : `-d ${text({ address: port.hostAddress, prefixLength: addressBits(port.address.family) })} `
  const ports = port.count === 1 ? `${port.hostPort}` : `${port.hostPort}:${last}`
  return `${to}-p ${port.protocol} -m ${port.protocol} --dport ${ports} -m comment ${ownerMark(owner)} -j DNAT --to-destination ${target(port)}`
}

/** A range keeps each port's distance from the first: `9000-9010/8000`. */
function target(port: PublishedPort): string {
  const address = formatAddress(port.address)
  const host = port.address.family === 6 ? `[${address}]` : address
  if (port.count === 1) return `${host}:${port.containerPort}`
  const range = `${port.containerPort}-${port.containerPort + port.count - 1}`
  return port.containerPort === port.hostPort ? `${host}:${range}` : `${host}:${range}/${port.hostPort}`
}

function text(prefix: IpPrefix): string {
  return formatPrefix({ address: networkAddress(prefix), prefixLength: prefix.prefixLength })
}
