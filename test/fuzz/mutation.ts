/** Hostile inputs made of good ones: from a seed number, so that each can be made again. */

/** What programs have stumbled over: shells, formats, paths, options, numbers, encodings, prototypes. */
const WORDS: readonly string[] = [
  '',
  '\n',
  '\r\n',
  '\0',
  '%',
  '%s%n',
  "'",
  '"',
  '\\',
  '`id`',
  '$(reboot)',
  ';reboot;',
  '| sh',
  '--help',
  '-j DROP',
  '-A FORWARD -j ACCEPT\nCOMMIT\n',
  '../../../etc/passwd',
  '/proc/self/ns/net',
  '/dev/zero',
  '.',
  '..',
  '*',
  '#',
  '{',
  '}',
  '[',
  ']',
  ':',
  ',',
  '\u2028',
  '\ufffd',
  '\ud800',
  '\u202etxt',
  '__proto__',
  'constructor',
  'toString',
  '0',
  '-1',
  '65536',
  '4294967296',
  '1e400',
  '0x10',
  '0.0.0.0/0',
  '::/0',
  '127.0.0.1',
  '255.255.255.255',
  'fe80::1%eth0',
  '10.0.0.0/33',
  'lo',
  'all',
  'x'.repeat(16),
  'x'.repeat(201),
  'x'.repeat(5000),
]

const VALUES: readonly unknown[] = [null, true, false, 0, -1, 1.5, 1e21, Number.MAX_SAFE_INTEGER, [], {}, [[]], [null], { a: {} }, nest(200)]

/** Draws the same for the same seed. */
export class Dice {
  #state: number

  constructor(seed: number) {
    this.#state = (seed ^ 0x9e3779b9) >>> 0 || 1
  }

  /** @returns A whole number from 0 to `below` - 1. */
  roll(below: number): number {
    // xorshift32, Marsaglia 2003
    this.#state ^= this.#state << 13
    this.#state ^= this.#state >>> 17
    this.#state ^= this.#state << 5
    this.#state >>>= 0
    return this.#state % below
  }

  pick<T>(list: readonly T[]): T {
    return list[this.roll(list.length)] as T
  }
}

/** @returns The bytes with one to four things changed: flipped, cut out, doubled, put in, cut off. */
export function mutateBytes(good: Buffer, dice: Dice): Buffer {
  let bytes = Buffer.from(good)
  for (let i = dice.roll(4); i >= 0; i--) {
    const at = dice.roll(bytes.length + 1)
    const length = dice.roll(1 + Math.min(64, bytes.length - at))
    const [before, part, after] = [bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at + length)]
    const change = dice.roll(6)
    if (change === 0) bytes[at % Math.max(1, bytes.length)] = dice.roll(256)
    else if (change === 1) bytes = Buffer.concat([before, after])
    else if (change === 2) bytes = Buffer.concat([before, part, part, after])
    else if (change === 3) bytes = Buffer.concat([before, Buffer.from(dice.pick(WORDS)), after])
    else if (change === 4) bytes = Buffer.from(before)
    else bytes = Buffer.concat([before, Buffer.from(Uint8Array.from([dice.roll(256), dice.roll(4) === 0 ? 255 : 0, 0, 0])), after])
  }
  return bytes
}

/** @returns The text changed as bytes, or as words of it. */
export function mutateText(good: string, dice: Dice): string {
  if (dice.roll(2) === 0) return mutateBytes(Buffer.from(good), dice).toString('utf8')
  const parts = good.split(/(?<=[\s"':;,=/-])/)
  parts[dice.roll(parts.length)] = dice.pick(WORDS)
  return parts.join('')
}

/** @returns The document with values, keys or lists in it changed: JSON still, unless its text is changed as well. */
export function mutateJson(good: unknown, dice: Dice): string {
  let document = structuredClone(good)
  for (let i = dice.roll(3); i >= 0; i--) document = mutateValue(document, dice)
  const text = JSON.stringify(document) ?? 'null'
  return dice.roll(8) === 0 ? mutateText(text, dice) : text
}

function mutateValue(value: unknown, dice: Dice): unknown {
  if (typeof value !== 'object' || value === null || dice.roll(12) === 0) return hostileValue(value, dice)
  const keys = Object.keys(value)
  const key = keys.length === 0 || dice.roll(8) === 0 ? dice.pick(WORDS) : dice.pick(keys)
  if (Array.isArray(value)) {
    const list: unknown[] = [...value]
    const at = dice.roll(list.length + 1)
    list[at] = mutateValue(list[at], dice)
    return dice.roll(6) === 0 ? [...list, ...list] : list
  }
  const entries = Object.entries(value)
  if (dice.roll(10) === 0) return Object.fromEntries(entries.filter(([name]) => name !== key))
  if (dice.roll(10) === 0) return Object.fromEntries([...entries, [key.toUpperCase(), hostileValue(undefined, dice)]])
  return Object.fromEntries([...entries, [key, mutateValue((value as Record<string, unknown>)[key], dice)]])
}

function hostileValue(value: unknown, dice: Dice): unknown {
  if (typeof value === 'string' && dice.roll(2) === 0) return mutateText(value, dice)
  return dice.roll(3) === 0 ? dice.pick(VALUES) : dice.pick(WORDS)
}

function nest(depth: number): unknown {
  let value: unknown = 1
  for (let i = 0; i < depth; i++) value = i % 2 === 0 ? [value] : { a: value }
  return value
}
