import { constants } from 'node:os'
import { getSystemErrorMap } from 'node:util'

/** errno names that node's tables lack, from include/uapi/asm-generic/errno.h (Linux 6.18). */
const MORE: Readonly<Record<number, string>> = { 85: 'ERESTART', 52: 'EBADE', 54: 'EXFULL', 524: 'ENOTSUPP' }

const names = new Map<number, string>(Object.entries(constants.errno).map(([name, code]) => [code, name]))

/** @param code A positive errno. @returns Its symbolic name, such as `EEXIST`, or `errno N`. */
export function errnoName(code: number): string {
  return names.get(code) ?? MORE[code] ?? `errno ${code}`
}

/** @param code A positive errno. @returns What it means, capitalised, such as `File already exists`. */
export function errnoText(code: number): string {
  const text = getSystemErrorMap().get(-code)?.[1] ?? 'Refused by the kernel'
  return text.charAt(0).toUpperCase() + text.slice(1)
}
