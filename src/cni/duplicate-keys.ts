/** Keys that occur twice in a JSON text, which JSON.parse keeps quiet about. */

/** A text, or one character that opens, closes or separates. */
const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\]:,]/g

interface Level {
  /** Absent in a list. */
  readonly keys?: Set<string>
  /** The key whose value comes. */
  key: string
}

/**
 * @param text JSON that can be parsed.
 * @param member The name, in any case, of a member of the outermost object.
 * @returns The first key that occurs twice in that member, an object; undefined when there is none.
 */
export function findDuplicateKey(text: string, member: string): string | undefined {
  const levels: Level[] = []
  let last = ''
  for (const [token] of text.matchAll(TOKENS)) {
    const level = levels.at(-1)
    if (token === '{') levels.push({ keys: new Set(), key: '' })
    else if (token === '[') levels.push({ key: '' })
    else if (token === '}' || token === ']') levels.pop()
    else if (token.startsWith('"')) last = token
    else if (token === ':' && level?.keys !== undefined) {
      level.key = JSON.parse(last) as string
      const wanted = levels.length === 2 && levels[0]?.key.toLowerCase() === member.toLowerCase()
      if (wanted && level.keys.has(level.key)) return level.key
      level.keys.add(level.key)
    }
  }
  return undefined
}
