/** What the plugins before this one in the chain have made. */
import type { RawConfig } from '../cni/request.ts'
import { parseResult, type Result } from '../cni/result.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { type IpPrefix, parsePrefix } from '../wire/ip-address.ts'

/** @throws TsnetError TSNET_CONFIG, CNI code 7, when the configuration holds no prevResult */
export function requirePreviousResult({ prevResult, cniVersion, type }: RawConfig): Result {
  if (prevResult !== undefined) return parseResult(prevResult, cniVersion)
  throw new TsnetError('TSNET_CONFIG', `Cannot work: type "${type}" needs the prevResult of a plugin before it`, { cniCode: CNI_CODE.invalidConfig })
}

/** @returns The same for CHECK, for which it is the result of the whole chain. @throws TsnetError TSNET_CONFIG, CNI code 7, when there is none */
export function requireCheckedResult({ prevResult, cniVersion }: RawConfig): Result {
  if (prevResult !== undefined) return parseResult(prevResult, cniVersion)
  throw new TsnetError('TSNET_CONFIG', 'Cannot check: the configuration holds no prevResult', { cniCode: CNI_CODE.invalidConfig })
}

/** @returns The same where it is not needed: undefined when there is none, or none that can be read. */
export function findPreviousResult({ prevResult, cniVersion }: RawConfig): Result | undefined {
  try {
    return prevResult === undefined ? undefined : parseResult(prevResult, cniVersion)
  } catch (error) {
    if (error instanceof TsnetError) return undefined
    throw error
  }
}

/** @returns All addresses of a result, with their prefix lengths. */
export function addressesIn({ ips }: Pick<Result, 'ips'>): readonly IpPrefix[] {
  return ips.flatMap(({ address }) => parsePrefix(address) ?? [])
}

/** @returns The container's first address of each family: of this interface, or of none that the result names. */
export function firstAddresses({ ips, interfaces }: Result, ifname: string): readonly IpPrefix[] {
  const own = ips.filter(({ interface: index }) => {
    const link = index === undefined ? undefined : interfaces[index]
    return index === undefined || (link?.name === ifname && link.sandbox !== undefined)
  })
  const prefixes = addressesIn({ ips: own })
  return ([4, 6] as const).flatMap((family) => prefixes.find(({ address }) => address.family === family) ?? [])
}
