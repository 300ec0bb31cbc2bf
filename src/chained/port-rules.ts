/** What the rules of published ports shall say, in whichever language they are written: the reference plugin's options. Pure. */
import { CNI_CODE, TsnetError } from '../error.ts'
import { formatHostPort, type PublishedPort, portsConflict } from '../nat/model.ts'
import { type RecordedPort, recordedPort, recordPort } from '../plan/record.ts'
import { type Family, formatPrefix, type IpPrefix, parsePrefix } from '../wire/ip-address.ts'

export interface PortRuleOptions {
  /** Whether connections from the container's subnet and from the host's 127.0.0.1 get the host's address. */
  readonly snat: boolean
  /** Whether all connections do, where `snat` is on. */
  readonly masqAll: boolean
  /** How such a connection is marked: by a bit of the packet's mark, or by a chain of somebody else's. */
  readonly mark: { readonly bit: number } | { readonly chain: string }
  /** Words that are put into the rules of a family. */
  readonly conditions: Readonly<Record<Family, readonly string[]>>
}

/** The ports of one interface of one container. */
export interface PortRules {
  readonly network: string
  readonly containerID: string
  readonly ports: readonly PublishedPort[]
  /** The interface's addresses that ports lead to, each with its subnet's length. */
  readonly targets: readonly IpPrefix[]
  readonly options: PortRuleOptions
}

export type PortRulesBackend = 'iptables' | 'nftables'

/** The same as an attachment's book keeps it. */
export interface PortRecord {
  readonly backend: PortRulesBackend
  readonly ports: readonly RecordedPort[]
  readonly targets: readonly string[]
  readonly options: PortRuleOptions
}

export function recordOf({ ports, targets, options }: PortRules, backend: PortRulesBackend): PortRecord {
  return { backend, ports: ports.map(recordPort), targets: targets.map(formatPrefix), options }
}

export function rulesFrom(owner: { readonly network: string; readonly containerID: string }, { ports, targets, options }: PortRecord): PortRules {
  const { network, containerID } = owner
  return { network, containerID, ports: ports.map(recordedPort), targets: targets.flatMap((text) => parsePrefix(text) ?? []), options }
}

/** @returns The families that have a port. */
export function familiesOf({ ports }: Pick<PortRules, 'ports'>): readonly Family[] {
  return ([4, 6] as const).filter((family) => ports.some(({ address }) => address.family === family))
}

export function portsIn(family: Family, { ports }: Pick<PortRules, 'ports'>): readonly PublishedPort[] {
  return ports.filter(({ address }) => address.family === family)
}

/** @returns The ports that nobody else may have: under conditions, two may share one. */
export function exclusivePorts({ ports, options }: Pick<PortRules, 'ports' | 'options'>): readonly PublishedPort[] {
  return ports.filter(({ address }) => options.conditions[address.family].length === 0)
}

/** Another's host port, found in the rules. */
export interface FoundPort {
  readonly port: PublishedPort
  readonly containerID: string
}

/** @throws TsnetError with CNI code 103 when another container's rules have one of the ports */
export function refuseFound(rules: PortRules, found: readonly FoundPort[]): void {
  const ours = exclusivePorts(rules)
  for (const { port, containerID } of found) {
    if (containerID === rules.containerID || !ours.some((own) => portsConflict(own, port))) continue
    throw new TsnetError('TSNET_PORT_TAKEN', `Cannot publish ${formatHostPort(port)}: rules of the container "${containerID}" have it`, {
      cniCode: CNI_CODE.hostPortTaken,
      hint: 'Publish another host port, or remove that container first; GC removes the rules of one that is gone',
    })
  }
}
