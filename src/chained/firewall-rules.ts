/**
 * What lets containers through a firewall, in the rules of iptables and in the reference plugin's words: chains for all containers,
 * and rules for each address. Pure.
 * @see containernetworking/plugins plugins/meta/firewall/{iptables,ingresspolicy_iptables}.go
 */
import { type ChainRules, commentMatch } from '../nat/iptables/table-edit.ts'
import { formatPrefix, type IpAddress, singlePrefix } from '../wire/ip-address.ts'

const FORWARD = 'CNI-FORWARD'
const STAGES = ['CNI-ISOLATION-STAGE-1', 'CNI-ISOLATION-STAGE-2'] as const
const JUMP = `${commentMatch('CNI firewall plugin rules')} -j ${FORWARD}`
const ISOLATION = commentMatch('CNI firewall plugin rules (ingressPolicy: same-bridge)')
const ISOLATION_JUMP = `${ISOLATION} -j ${STAGES[0]}`
const RETURN = `${ISOLATION} -j RETURN`

export interface Isolation {
  /** A checked name. */
  readonly bridge: string
  /** Who reaches its containers: those on the same bridge, or nobody but the host. */
  readonly policy: 'same-bridge' | 'isolated'
}

export interface FirewallRules {
  /** Of one family. */
  readonly addresses: readonly IpAddress[]
  /** The administrator's chain: it comes first, and nothing is written into it. */
  readonly adminChain: string
  readonly isolation?: Isolation
}

/** @returns The lines that add what is missing. */
export function openLines({ addresses, adminChain, isolation }: FirewallRules, chains: ChainRules): readonly string[] {
  const admin = adminJump(adminChain)
  const missing = [FORWARD, adminChain, ...(isolation === undefined ? [] : STAGES)].filter((chain) => !chains.has(chain))
  const unless = (chain: string, spec: string, line: string) => (chains.get(chain)?.includes(spec) === true ? [] : [line])
  return [
    ...missing.map((chain) => `-N ${chain}`),
    ...unless('FORWARD', JUMP, `-I FORWARD ${JUMP}`),
    ...unless(FORWARD, admin, `-I ${FORWARD} ${admin}`),
    ...addresses.flatMap(addressRules).flatMap((spec) => unless(FORWARD, spec, `-A ${FORWARD} ${spec}`)),
    ...(isolation === undefined ? [] : isolateLines(isolation, chains)),
  ]
}

/** @returns Lines that are right unless somebody else has been at the rules. */
export function closeLines(addresses: readonly IpAddress[]): readonly string[] {
  return addresses.flatMap(addressRules).map((spec) => `-D ${FORWARD} ${spec}`)
}

/** @returns The same, from what is there. */
export function closePresentLines(addresses: readonly IpAddress[], chains: ChainRules): readonly string[] {
  const present = chains.get(FORWARD) ?? []
  return addresses
    .flatMap(addressRules)
    .filter((spec) => present.includes(spec))
    .map((spec) => `-D ${FORWARD} ${spec}`)
}

/** @returns Lines that end the isolation of a bridge, and take the chains away with the last one. */
export function joinLines(bridge: string, chains: ChainRules): readonly string[] {
  const has = (chain: string, spec: string) => chains.get(chain)?.includes(spec) === true
  const unwanted = isolationRules({ bridge, policy: 'isolated' }).filter(({ chain, spec }) => has(chain, spec))
  const left = STAGES.flatMap((chain) =>
    (chains.get(chain) ?? []).filter((spec) => spec !== RETURN && !unwanted.some((rule) => rule.chain === chain && rule.spec === spec)),
  )
  const present = STAGES.filter((chain) => chains.has(chain))
  if (left.length > 0 || present.length === 0) return unwanted.map(({ chain, spec }) => `-D ${chain} ${spec}`)
  const jump = has('FORWARD', ISOLATION_JUMP) ? [`-D FORWARD ${ISOLATION_JUMP}`] : []
  return [...jump, ...present.map((chain) => `-F ${chain}`), ...present.map((chain) => `-X ${chain}`)]
}

/** @returns Whether the rules of a bridge are there. */
export function isIsolated({ bridge }: Isolation, chains: ChainRules): boolean {
  return isolationRules({ bridge, policy: 'same-bridge' }).every(({ chain, spec }) => chains.get(chain)?.includes(spec) === true)
}

/** @param byReference Whether the reference plugin has made them, which has no rule for published ports. @returns The rules that should be there and are not, as text */
export function missingFirewallLines(
  { addresses, adminChain, isolation }: FirewallRules,
  chains: ChainRules,
  byReference: boolean,
): readonly string[] {
  const isolated = isolation === undefined ? [] : [{ chain: 'FORWARD', spec: ISOLATION_JUMP }, ...isolationRules(isolation)]
  const wanted = [
    { chain: 'FORWARD', spec: JUMP },
    { chain: FORWARD, spec: adminJump(adminChain) },
    ...addresses
      .flatMap((address) => (byReference ? addressRules(address).slice(0, 2) : addressRules(address)))
      .map((spec) => ({ chain: FORWARD, spec })),
    ...isolated,
  ]
  return wanted.filter(({ chain, spec }) => chains.get(chain)?.includes(spec) !== true).map(({ chain, spec }) => `filter: -A ${chain} ${spec}`)
}

/** The last one lets connections to published ports in, which the reference plugin leaves to the policy of FORWARD. */
function addressRules(address: IpAddress): readonly string[] {
  const host = formatPrefix(singlePrefix(address))
  return [
    `-d ${host} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
    `-s ${host} -j ACCEPT`,
    `-d ${host} -m conntrack --ctstate DNAT -j ACCEPT`,
  ]
}

function isolateLines(isolation: Isolation, chains: ChainRules): readonly string[] {
  const unless = (chain: string, spec: string, line: string) => (chains.get(chain)?.includes(spec) === true ? [] : [line])
  return [
    ...unless('FORWARD', ISOLATION_JUMP, `-I FORWARD ${ISOLATION_JUMP}`),
    ...isolationRules(isolation).flatMap(({ chain, spec }) => unless(chain, spec, `-I ${chain} ${spec}`)),
    ...STAGES.flatMap((chain) => unless(chain, RETURN, `-A ${chain} ${RETURN}`)),
  ]
}

function isolationRules({ bridge, policy }: Isolation): readonly { readonly chain: string; readonly spec: string }[] {
  const within = {
    chain: STAGES[0],
    spec: `-i ${bridge} -o ${bridge} ${commentMatch('CNI firewall plugin rules (ingressPolicy: isolated)')} -j DROP`,
  }
  return [
    { chain: STAGES[0], spec: `-i ${bridge} ! -o ${bridge} ${ISOLATION} -j ${STAGES[1]}` },
    { chain: STAGES[1], spec: `-o ${bridge} ${ISOLATION} -j DROP` },
    ...(policy === 'isolated' ? [within] : []),
  ]
}

function adminJump(chain: string): string {
  return `${commentMatch('CNI firewall plugin admin overrides')} -j ${chain}`
}
