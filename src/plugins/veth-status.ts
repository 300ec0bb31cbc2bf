/** STATUS of what the types `bridge` and `ptp` have in common. */
import { defaultBackend } from '../chained/masquerade.ts'
import { ipamOf } from './ipam.ts'
import type { PluginRequest } from './plugin.ts'
import type { VethConfig } from './veth-config.ts'

/** @throws TsnetError with CNI code 50 when the tools for masquerading are missing; whatever IPAM says */
export function vethStatus(request: PluginRequest, { masquerade }: VethConfig): void {
  if (masquerade !== undefined) {
    const name = masquerade.backend ?? defaultBackend()
    request.context.backends.find((backend) => backend.name === name)?.ensureAvailable([4])
  }
  ipamOf(request)?.status()
}
