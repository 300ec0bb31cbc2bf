/** Addresses and MAC that a runtime asks for, by any of the three ways that CNI has grown. */
import { type IpAddress, parseAddress, parsePrefix } from '../wire/ip-address.ts'
import type { CniArgs } from './cni-args.ts'
import { invalidField, isObject, type JsonObject, optionalArray, optionalString, optionalStrings, present } from './json.ts'

export interface RequestedAddress {
  readonly address: IpAddress
  /** Absent where the runtime left it to the subnet. */
  readonly prefixLength?: number
}

/** One range of the capability ipRanges; the texts are as given. */
export interface RequestedRange {
  readonly subnet: string
  readonly rangeStart?: string
  readonly rangeEnd?: string
  readonly gateway?: string
}

/** Where wishes come from: members of RawConfig, and CNI_ARGS. */
export interface WishSources {
  readonly runtimeConfig: JsonObject
  /** The configuration's `args.cni`. */
  readonly args: JsonObject
  readonly cniArgs?: CniArgs
}

/**
 * @returns The addresses of CNI_ARGS IP, args.cni.ips and runtimeConfig.ips, in this order, each once; where one names a prefix
 * length, it holds.
 * @throws TsnetError TSNET_CONFIG, CNI code 7, for a text that is no address
 * @see CNI CONVENTIONS.md, "ips"; containernetworking/plugins host-local allocator/config.go, LoadIPAMConfig
 */
export function requestedAddresses({ runtimeConfig, args, cniArgs }: WishSources): readonly RequestedAddress[] {
  const found = new Map<string, RequestedAddress>()
  const add = (text: string, key: string) => {
    const wish = parseWish(text, key)
    const id = `${wish.address.family} ${wish.address.value}`
    if (found.get(id)?.prefixLength === undefined) found.set(id, wish)
  }
  for (const text of cniArgs?.ip?.split(',') ?? []) add(text, 'CNI_ARGS IP')
  for (const [i, text] of (optionalStrings(args, 'ips', 'args.cni.') ?? []).entries()) add(text, `args.cni.ips[${i}]`)
  for (const [i, text] of (optionalStrings(runtimeConfig, 'ips', 'runtimeConfig.') ?? []).entries()) add(text, `runtimeConfig.ips[${i}]`)
  return [...found.values()]
}

/**
 * @returns The MAC of runtimeConfig, else of args.cni, else of CNI_ARGS, in lower case with colons; undefined when none asks.
 * @throws TsnetError TSNET_CONFIG, CNI code 7, unless it is a unicast address of 6 octets
 * @see CNI CONVENTIONS.md, "mac"; containernetworking/plugins bridge.go, loadNetConf
 */
export function requestedMac({ runtimeConfig, args, cniArgs }: WishSources): string | undefined {
  const capability = optionalString(runtimeConfig, 'mac', 'runtimeConfig.')
  if (capability) return parseMac(capability, 'runtimeConfig.mac')
  const argument = optionalString(args, 'mac', 'args.cni.')
  if (argument) return parseMac(argument, 'args.cni.mac')
  return cniArgs?.mac ? parseMac(cniArgs.mac, 'CNI_ARGS MAC') : undefined
}

/**
 * @param text Six octets with colons or hyphens, or three groups with dots.
 * @param key What a refusal names.
 * @returns The address in lower case with colons.
 * @throws TsnetError TSNET_CONFIG, CNI code 7, for another text, a multicast address or all zeros
 * @see Go net.ParseMAC; kernel include/linux/etherdevice.h, is_valid_ether_addr
 */
export function parseMac(text: string, key: string): string {
  if (!/^[0-9a-f]{2}([:-])([0-9a-f]{2}\1){4}[0-9a-f]{2}$|^([0-9a-f]{4}\.){2}[0-9a-f]{4}$/i.test(text)) {
    throw invalidField(key, text, 'a MAC address of 6 octets')
  }
  const octets =
    text
      .toLowerCase()
      .replace(/[^0-9a-f]/g, '')
      .match(/../g) ?? []
  const first = Number.parseInt(octets[0] ?? '', 16)
  if ((first & 1) === 1 || octets.every((octet) => octet === '00')) throw invalidField(key, text, 'a unicast MAC address')
  return octets.join(':')
}

/**
 * @returns The range sets of runtimeConfig.ipRanges with their keys in the usual case and their texts as given; none when absent.
 * @throws TsnetError TSNET_CONFIG, CNI code 7, unless it is a list of lists of objects with texts, a subnet in each
 * @see CNI CONVENTIONS.md, "ipRanges"
 */
export function requestedRanges(runtimeConfig: JsonObject): readonly (readonly RequestedRange[])[] {
  return (optionalArray(runtimeConfig, 'ipRanges', 'runtimeConfig.') ?? []).map((set, i) => {
    const path = `runtimeConfig.ipRanges[${i}]`
    if (!Array.isArray(set)) throw invalidField(path, set, 'a list')
    return set.map((range: unknown, j) => parseRange(range, `${path}[${j}]`))
  })
}

function parseRange(range: unknown, path: string): RequestedRange {
  if (!isObject(range)) throw invalidField(path, range, 'an object')
  const text = (key: string) => optionalString(range, key, `${path}.`) || undefined
  const subnet = text('subnet')
  if (subnet === undefined) throw invalidField(`${path}.subnet`, '', 'a subnet')
  return present({ subnet, rangeStart: text('rangeStart'), rangeEnd: text('rangeEnd'), gateway: text('gateway') })
}

function parseWish(text: string, key: string): RequestedAddress {
  const address = parseAddress(text)
  const wish = address === undefined ? parsePrefix(text) : { address }
  if (wish === undefined) throw invalidField(key, text, 'an IP address with or without a prefix length')
  return wish
}
