/** MAC addresses: six bytes ⇄ lower-case text with colons. */
import { randomBytes } from '../sys/random.ts'
import type { IpAddress } from '../wire/ip-address.ts'

/** @returns A locally administered unicast address. It must be unique on the bridge, not secret. */
export function randomMac(): Uint8Array {
  const mac = randomBytes(6)
  mac[0] = ((mac[0] as number) & 0xfc) | 0x02
  return mac
}

/** @returns The link-local address that an interface with this MAC address gives itself. @see RFC 4291, appendix A */
export function linkLocalAddress(mac: Uint8Array): IpAddress {
  const [first = 0, ...rest] = mac
  const identifier = Buffer.from([first ^ 0x02, ...rest.slice(0, 2), 0xff, 0xfe, ...rest.slice(2)])
  return { family: 6, value: (0xfe80n << 112n) | identifier.readBigUInt64BE() }
}

export function macToBytes(mac: string): Uint8Array {
  return new Uint8Array(mac.split(':').map((octet) => Number.parseInt(octet, 16)))
}

export function macToText(mac: Uint8Array): string {
  return Buffer.from(mac)
    .toString('hex')
    .replace(/..(?=.)/g, '$&:')
}
