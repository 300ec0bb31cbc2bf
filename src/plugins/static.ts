/** Type `static`: the addresses that configuration and runtime name. It keeps nothing, so there is nothing to take back. */
import { parseResult } from '../cni/result.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { formatAddress, formatPrefix, parsePrefix } from '../wire/ip-address.ts'
import type { Plugin } from './plugin.ts'
import { parseStaticConfig, type StaticAddress } from './static-config.ts'

export const staticAddresses: Plugin = {
  add: (request) => {
    const { addresses, routes, dns } = parseStaticConfig(request)
    return { interfaces: [], ips: addresses.map(ipOf), routes, dns }
  },
  del: () => {},
  check: (request) => {
    const { prevResult, cniVersion } = request.config
    if (prevResult === undefined) throw new TsnetError('TSNET_CONFIG', 'Required prevResult missing', { cniCode: CNI_CODE.invalidConfig })
    const found = parseResult(prevResult, cniVersion).ips.map(({ address, gateway }) => `${normal(address)} ${gateway ?? ''}`)
    for (const { prefix, gateway } of parseStaticConfig(request).addresses) {
      const wanted = formatPrefix(prefix)
      const ways = gateway === undefined ? found.map((text) => text.split(' ')[0]) : found
      if (ways.includes(gateway === undefined ? wanted : `${wanted} ${formatAddress(gateway)}`)) continue
      throw new TsnetError('TSNET_CHECK', `static: Failed to match addr ${wanted} on interface ${request.environment.ifname}`, {
        cniCode: CNI_CODE.checkFailed,
      })
    }
  },
  gc: () => {},
  status: (request) => void parseStaticConfig(request),
}

function ipOf({ prefix, gateway }: StaticAddress) {
  return { address: formatPrefix(prefix), ...(gateway !== undefined && { gateway: formatAddress(gateway) }) }
}

function normal(text: string): string {
  const prefix = parsePrefix(text)
  return prefix === undefined ? text : formatPrefix(prefix)
}
