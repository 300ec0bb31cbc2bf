/** A list of domain names as DNS writes them, which may end in a reference to an earlier one. @see RFC 3397; RFC 1035, 4.1.4 */

const POINTER = 0xc0
const LONGEST_NAME = 253
const MOST_NAMES = 64

/** @param names Dotted. @throws RangeError for a label that is empty or longer than 63 bytes */
export function encodeDomains(names: readonly string[]): Uint8Array {
  return Buffer.concat(names.flatMap((name) => [...name.split('.').map(encodeLabel), Buffer.of(0)]))
}

/** @throws RangeError for a name that is cut off, too long, or refers to itself or to what follows it */
export function decodeDomains(payload: Buffer): readonly string[] {
  const names: string[] = []
  for (let at = 0; at < payload.length; ) {
    if (names.length === MOST_NAMES) throw new RangeError(`DHCP domain list has more than ${MOST_NAMES} names`)
    const { labels, end } = decodeName(payload, at)
    if (labels.length > 0) names.push(labels.join('.'))
    at = end
  }
  return names
}

function encodeLabel(label: string): Uint8Array {
  const bytes = Buffer.from(label)
  if (bytes.length === 0 || bytes.length > 63) throw new RangeError(`${JSON.stringify(label)} is no label of a domain name`)
  return Buffer.concat([Buffer.of(bytes.length), bytes])
}

/** @returns Where the next name begins too. References only lead back, so there is an end to them. */
function decodeName(payload: Buffer, start: number): { readonly labels: readonly string[]; readonly end: number } {
  const labels: string[] = []
  let end: number | undefined
  let lowest = start
  let total = 0
  for (let at = start; ; ) {
    const length = payload[at]
    if (length === undefined) throw new RangeError('DHCP domain name is cut off')
    if (length === 0) return { labels, end: end ?? at + 1 }
    if ((length & POINTER) === POINTER) {
      const target = ((length & ~POINTER) << 8) | (payload[at + 1] ?? payload.length)
      if (target >= lowest) throw new RangeError('DHCP domain name refers to what is not before it')
      end ??= at + 2
      lowest = target
      at = target
      continue
    }
    total += length + 1
    if (length > 63 || total > LONGEST_NAME + 1 || at + 1 + length > payload.length) throw new RangeError('DHCP domain name is cut off or too long')
    labels.push(payload.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
}
