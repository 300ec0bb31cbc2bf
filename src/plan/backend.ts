/** Which backend writes the rules of a network: chosen with the network, remembered in its record. */
import type { Backend } from '../nat/backend.ts'
import type { PlanContext } from './attach.ts'
import { type NetworkConfig, type NetworkRecord, readNetwork } from './network.ts'
import { listLiveNetworks } from './record.ts'
import type { StateFolder } from './state-folder.ts'

export type BackendName = Backend['name']

/** @returns The context with the backend of this name. A network whose record names none is of the first days, when there was one. */
export function withBackend<T extends PlanContext>(context: T, name: BackendName | undefined): T {
  return { ...context, backend: context.backends.find((backend) => backend.name === (name ?? 'iptables')) ?? context.backend }
}

/**
 * @returns The backend that the configuration names; by `auto` iptables where it is in use, since only there its DROPs can be
 * overruled, and else nftables. A network goes over to iptables when somebody begins to use it, and never back.
 */
export function chooseBackend(config: NetworkConfig, known: NetworkRecord | undefined, context: PlanContext): BackendName {
  if (config.backend !== 'auto') return config.backend
  if (known !== undefined && (known.backend ?? 'iptables') === 'iptables') return 'iptables'
  return context.backends.find((backend) => backend.isInUse())?.name ?? 'nftables'
}

/** @returns The networks that have an attachment, and their rules in this backend. */
export function liveNetworksOn(state: StateFolder, name: BackendName): readonly string[] {
  return listLiveNetworks(state).filter((network) => (readNetwork(state, network)?.backend ?? 'iptables') === name)
}
