/** The kernel parameters of the host that networks and attachments rely upon, as values. Pure. */
import type { PublishedPort } from '../nat/model.ts'
import type { NetworkRecord } from './network.ts'

export interface Sysctl {
  /** Path below /proc/sys. */
  readonly key: string
  readonly value: string
  /** Whether a kernel without it is an error. */
  readonly required?: boolean
}

export interface HostSysctl extends Sysctl {
  /** Values that do as well, and that are left alone. */
  readonly alternatives?: readonly string[]
  /** Who else may rely upon it: all networks, those of the same bridge, or containers that are in several networks. */
  readonly scope: 'host' | 'bridge' | 'container'
}

/**
 * Forwarding is the host's, the rest the bridge's own. On a bridge of the person's only what the network cannot do without.
 * @returns What a network needs whoever is attached, in the order in which it is to be written
 */
export function switchesOf(network: NetworkRecord): readonly HostSysctl[] {
  const { bridge, gateway, createdBridge, subnets } = network
  const v4 = gateway && subnets.some((subnet) => !subnet.includes(':'))
  const v6 = gateway && subnets.some((subnet) => subnet.includes(':'))
  const ipv6 = `net/ipv6/conf/${bridge}`
  return [
    ...(v4 ? [{ key: 'net/ipv4/ip_forward', value: '1', scope: 'host' } as const] : []),
    // A container cannot send from an address that is not routed to its bridge.
    ...(createdBridge ? [{ key: reversePathKey(bridge), value: '1', alternatives: ['2'], scope: 'bridge' } as const] : []),
    ...(v6
      ? ([
          { key: `${ipv6}/accept_ra`, value: '0', scope: 'bridge' },
          // Without a link-local address that is past its duplicate address detection, the host asks for no neighbour on the bridge.
          { key: `${ipv6}/accept_dad`, value: '0', scope: 'bridge' },
          { key: 'net/ipv6/conf/all/forwarding', value: '1', scope: 'host' },
        ] as const)
      : []),
    // Rules know subnets; by a link-local address a container would speak past them, with the host and with neighbours.
    ...(v6 || createdBridge ? [{ key: `${ipv6}/disable_ipv6`, value: v6 ? '0' : '1', scope: 'bridge' } as const] : []),
  ]
}

/** Loopback addresses are routed out of the bridge, so that a published port answers on 127.0.0.1 too; the raw table keeps the way in closed. */
export function loopbackSwitch(bridge: string): HostSysctl {
  return { key: `net/ipv4/conf/${bridge}/route_localnet`, value: '1', scope: 'bridge' }
}

/**
 * A container in several networks answers by its default route what it was asked by another of them. The source has to be
 * routed then, but not to the bridge that the answer comes from.
 */
export function looseSwitch(bridge: string): HostSysctl {
  return { key: reversePathKey(bridge), value: '2', scope: 'container' }
}

/** @returns Whether one of the ports can be reached by an address of 127.0.0.0/8. */
export function answersOnLoopback(ports: readonly PublishedPort[]): boolean {
  return ports.some(
    ({ address, hostAddress }) =>
      address.family === 4 && (hostAddress === undefined || hostAddress.value === 0n || hostAddress.value >> 24n === 127n),
  )
}

/** @returns Whether the kernel's value is as it shall be. */
export function isSet({ value, alternatives = [] }: HostSysctl, actual: string | undefined): boolean {
  return actual === value || (actual !== undefined && alternatives.includes(actual))
}

function reversePathKey(bridge: string): string {
  return `net/ipv4/conf/${bridge}/rp_filter`
}
