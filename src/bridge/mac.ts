/** MAC addresses: six bytes ⇄ lower-case text with colons. */

/** @returns A locally administered unicast address. It must be unique on the bridge, not secret. */
export function randomMac(): Uint8Array {
  const mac = Uint8Array.from({ length: 6 }, () => Math.floor(Math.random() * 256))
  mac[0] = ((mac[0] as number) & 0xfc) | 0x02
  return mac
}

export function macToBytes(mac: string): Uint8Array {
  return Uint8Array.from(mac.split(':'), (octet) => Number.parseInt(octet, 16))
}

export function macToText(mac: Uint8Array): string {
  return Array.from(mac, (octet) => octet.toString(16).padStart(2, '0')).join(':')
}
