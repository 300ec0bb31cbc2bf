/** STATUS of type `bridge`: whether an ADD could succeed. */
import { findBridge } from '../bridge/bridge.ts'
import { ensureVlansAvailable } from '../chained/bridge-device.ts'
import { ensureGuardAvailable } from '../nat/source-guard/guard.ts'
import { openRtnetlink } from '../netlink/rtnetlink.ts'
import { hasVlans, parseBridgeConfig } from './bridge-config.ts'
import type { PluginRequest } from './plugin.ts'
import { vethStatus } from './veth-status.ts'

/** @throws TsnetError that says why not, mostly with CNI code 50 */
export function bridgeStatus(request: PluginRequest): void {
  const config = parseBridgeConfig(request.config, request.environment.args)
  using host = openRtnetlink()
  if (hasVlans(config)) ensureVlansAvailable(host, config.bridge)
  else findBridge(host, config.bridge)
  if (config.spoofCheck) ensureGuardAvailable()
  vethStatus(request, config)
}
