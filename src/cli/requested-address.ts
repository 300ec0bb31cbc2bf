/** `--ip`: an address, or an address with the prefix length of its subnet. */
import { quote } from '../cni/json.ts'
import { formatAddress, parseAddress } from '../wire/ip-address.ts'
import { usageError } from './usage-error.ts'

const FORM = 'Give an address of the network, for example 10.210.0.5 or fd00::5'

/**
 * @param texts What follows each `--ip`.
 * @returns The addresses as the capability ips takes them. ip-cidr is loaded only when there is one.
 * @throws TsnetError TSNET_USAGE for a text that is no address of a host
 */
export async function parseRequestedAddresses(texts: readonly string[]): Promise<readonly string[]> {
  if (texts.length === 0) return []
  const { default: IPCIDR } = await import('ip-cidr')
  return texts.map((text) => {
    const cidr = text.includes('/')
    // ip-cidr also takes zones and shortened forms; what the plugin would read otherwise, or not at all, is refused here.
    const valid = parseAddress(text.replace(/\/.*/, '')) !== undefined && (cidr ? IPCIDR.isValidCIDR(text) : IPCIDR.isValidAddress(text))
    if (!valid) throw usageError(`Cannot use --ip ${quote(text)}: it is no IP address`, FORM)
    if (!cidr) return IPCIDR.createAddress(text).correctForm()
    const subnet = new IPCIDR(text)
    const address = subnet.address.correctForm()
    if (Number(subnet.size) > 2 && address === subnet.addressStart.correctForm()) {
      throw usageError(`Cannot use --ip ${quote(text)}: it is a subnet, not one address`, `Give an address in it, for example ${exampleIn(address)}`)
    }
    return `${address}/${subnet.address.subnetMask}`
  })
}

function exampleIn(first: string): string {
  const network = parseAddress(first)
  return network === undefined ? 'another' : formatAddress({ ...network, value: network.value + 2n })
}
