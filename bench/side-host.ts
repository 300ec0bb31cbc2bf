/** More hosts inside the throw-away one, each with a network, an outside and a state folder of its own: what is compared stands side by side. */
import { openNetns, within } from '../src/sys/netns.ts'
import { makeNetns } from './host.ts'
import { type Execution, execute, type Outcome, run } from './measure.ts'

/** Of the outside, and of the host's uplink. */
export const OUTSIDE_ADDRESS = '198.51.100.1'
export const HOST_ADDRESS = '198.51.100.2'

export interface SideHost {
  readonly name: string
  /** Path of its network namespace. */
  readonly netns: string
  /** Path of the network namespace beyond its uplink. */
  readonly outside: string
  /** Runs a program in the host; the clock does not see the way there. */
  readonly execute: (execution: Execution) => Outcome
}

export function makeSideHost(name: string): SideHost {
  const [host, outside] = [`host-${name}`, `outside-${name}`]
  const paths = { netns: makeNetns(host), outside: makeNetns(outside) }
  const ip = (netns: string, ...args: readonly string[]) => run('ip', '-n', netns, ...args)
  for (const netns of [host, outside]) ip(netns, 'link', 'set', 'lo', 'up')
  ip(host, 'link', 'add', 'uplink0', 'type', 'veth', 'peer', 'name', 'uplink0', 'netns', outside)
  ip(outside, 'addr', 'add', `${OUTSIDE_ADDRESS}/24`, 'dev', 'uplink0')
  ip(host, 'addr', 'add', `${HOST_ADDRESS}/24`, 'dev', 'uplink0')
  for (const netns of [host, outside]) ip(netns, 'link', 'set', 'uplink0', 'up')
  ip(host, 'route', 'add', 'default', 'via', OUTSIDE_ADDRESS)
  const inHost = (execution: Execution): Outcome => {
    using netns = openNetns(paths.netns)
    return within(netns, () => execute({ ...execution, env: { ...execution.env, ...sideEnvironment(name) } }))
  }
  return { name, ...paths, execute: inHost }
}

/** Where what runs in the host keeps its state, and looks for an agent. */
export function sideEnvironment(name: string) {
  return { TSNET_STATE_DIR: `/run/tsnet-${name}`, TSNET_RUN_DIR: `/run/agent-${name}` }
}
