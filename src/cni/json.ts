/** JSON as Go's decoder reads it: keys in any case, null as absent, and readers that refuse a value of the wrong type. */
import { CNI_CODE, TsnetError } from '../error.ts'

export interface JsonObject {
  readonly [key: string]: unknown
}

/** An object type whose members that may be undefined became optional. */
export type Present<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>
}

export interface IntegerRange {
  readonly min: number
  readonly max: number
  /** What stands before the key in messages, such as `portMappings[0].`; default none. */
  readonly path?: string
}

/** How much of a caller's value a message repeats. */
const QUOTED_LENGTH = 64

/**
 * @param what The object that a refusal names.
 * @returns The value that the text stands for.
 * @throws TsnetError TSNET_CONFIG, CNI code 6, when the text is not JSON
 */
export function parseJson(text: string, what = 'the network configuration'): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new TsnetError('TSNET_CONFIG', `Cannot read ${what} as JSON`, { cniCode: CNI_CODE.decode, cause })
  }
}

/** @returns The value that the text stands for; undefined for no text, and for one that is not JSON. */
export function parseJsonOrUndefined(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text)
  } catch {
    return undefined
  }
}

/** @returns Whether the value is a JSON object: no array, no null. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/**
 * Reads a member by its name in any case. Of several spellings the last in the document wins, and null counts as absent.
 * A spelling that occurs twice counts where it stood first, because JSON.parse keeps only that place.
 * @returns The value, or undefined when there is none.
 * @see Go encoding/json, Unmarshal: "preferring an exact match but also accepting a case-insensitive match"
 */
export function field(object: JsonObject, name: string): unknown {
  const wanted = name.toLowerCase()
  let found: unknown
  for (const key of Object.keys(object)) {
    if (key.length === name.length && key.toLowerCase() === wanted) found = object[key] ?? found
  }
  return found
}

/** @returns The object without the members whose name is one of `names` in any case. */
export function omitFields(object: JsonObject, ...names: readonly string[]): JsonObject {
  const unwanted = names.map((name) => name.toLowerCase())
  return Object.fromEntries(Object.entries(object).filter(([key]) => !unwanted.includes(key.toLowerCase())))
}

/** @returns The object without the members that are undefined. */
export function present<T extends object>(object: T): Present<T> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as Present<T>
}

/** @returns A caller's value for use in a message: escaped, at most 64 characters; lists and objects are only called so. */
export function quote(value: unknown): string {
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object' && value !== null) return 'an object'
  if (typeof value !== 'string') return String(value)
  // JSON.stringify leaves DEL, C1 and the characters that turn or hide text as they are.
  const escaped = JSON.stringify(value.slice(0, QUOTED_LENGTH)).replace(
    /[\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  return escaped.length <= QUOTED_LENGTH && value.length <= QUOTED_LENGTH ? escaped : `${escaped.slice(0, QUOTED_LENGTH - 2)}…"`
}

/** @returns The refusal of one member: TsnetError TSNET_CONFIG, CNI code 7. @param wish What the value should be, after "is not". */
export function invalidField(key: string, value: unknown, wish: string): TsnetError {
  return new TsnetError('TSNET_CONFIG', `Invalid "${key}": ${quote(value)} is not ${wish}`, { cniCode: CNI_CODE.invalidConfig })
}

/** @returns The text, or undefined when absent. @throws TsnetError TSNET_CONFIG, CNI code 7, for another type */
export function optionalString(object: JsonObject, key: string, path = ''): string | undefined {
  const value = field(object, key)
  if (value !== undefined && typeof value !== 'string') throw invalidField(path + key, value, 'a string')
  return value
}

/** @returns The truth value, or undefined when absent. @throws TsnetError TSNET_CONFIG, CNI code 7, for another type */
export function optionalBoolean(object: JsonObject, key: string, path = ''): boolean | undefined {
  const value = field(object, key)
  if (value !== undefined && typeof value !== 'boolean') throw invalidField(path + key, value, 'true or false')
  return value
}

/** @returns The number, or undefined when absent. @throws TsnetError TSNET_CONFIG, CNI code 7, unless whole and in the range */
export function optionalInteger(object: JsonObject, key: string, { min, max, path = '' }: IntegerRange): number | undefined {
  const value = field(object, key)
  if (value === undefined) return undefined
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value
  throw invalidField(path + key, value, `a whole number from ${min} to ${max}`)
}

/** @returns The object, or undefined when absent. @throws TsnetError TSNET_CONFIG, CNI code 7, for another type */
export function optionalObject(object: JsonObject, key: string, path = ''): JsonObject | undefined {
  const value = field(object, key)
  if (value !== undefined && !isObject(value)) throw invalidField(path + key, value, 'an object')
  return value
}

/** @returns The list, or undefined when absent. @throws TsnetError TSNET_CONFIG, CNI code 7, for another type */
export function optionalArray(object: JsonObject, key: string, path = ''): readonly unknown[] | undefined {
  const value = field(object, key)
  if (value !== undefined && !Array.isArray(value)) throw invalidField(path + key, value, 'a list')
  return value
}

/** @returns The list of texts, or undefined when absent. @throws TsnetError TSNET_CONFIG, CNI code 7, for another type, also of a member */
export function optionalStrings(object: JsonObject, key: string, path = ''): readonly string[] | undefined {
  return optionalArray(object, key, path)?.map((value, i) => {
    if (typeof value !== 'string') throw invalidField(`${path}${key}[${i}]`, value, 'a string')
    return value
  })
}

/** @returns The list of objects, or undefined when absent. @throws TsnetError TSNET_CONFIG, CNI code 7, for another type, also of a member */
export function optionalObjects(object: JsonObject, key: string, path = ''): readonly JsonObject[] | undefined {
  return optionalArray(object, key, path)?.map((value, i) => {
    if (!isObject(value)) throw invalidField(`${path}${key}[${i}]`, value, 'an object')
    return value
  })
}
