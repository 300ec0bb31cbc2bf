/** Keys that several types of interfaces read alike. */
import { parseMac, requestedMac } from '../cni/capabilities.ts'
import { parseCniArgs } from '../cni/cni-args.ts'
import { optionalInteger, optionalString } from '../cni/json.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import type { PluginRequest } from './plugin.ts'

/** What an IPv4 packet may have at most. */
const LARGEST_MTU = 65_535

/** @returns Bytes; 0 leaves it to the kernel. @throws TsnetError TSNET_CONFIG, CNI code 7 */
export function parseMtu({ config }: PluginRequest): number {
  return optionalInteger(config.raw, 'mtu', { min: 0, max: LARGEST_MTU }) ?? 0
}

/** @returns The MAC address of runtimeConfig, args.cni, CNI_ARGS or the configuration, the first that asks. @throws TsnetError CNI code 7 or 4 */
export function parseWantedMac({ config, environment }: PluginRequest): string | undefined {
  const wanted = requestedMac({ ...config, cniArgs: parseCniArgs(environment.args) })
  const configured = optionalString(config.raw, 'mac')
  return wanted ?? (configured ? parseMac(configured, 'mac') : undefined)
}

/** @returns An interface's name; empty when the configuration names none. @throws TsnetError TSNET_CONFIG, CNI code 7, for what can be none */
export function parseLinkName({ config }: PluginRequest, key: string): string {
  const name = optionalString(config.raw, key) ?? ''
  if (Buffer.byteLength(name) <= 15 && !/[/\0]/.test(name)) return name
  throw new TsnetError('TSNET_CONFIG', `Invalid "${key}": an interface's name has at most 15 bytes and no slash`, { cniCode: CNI_CODE.invalidConfig })
}
