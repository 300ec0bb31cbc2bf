import { getSystemErrorMap } from 'node:util'

// include/uapi/asm-generic/errno-base.h and errno.h. node:os has them too, and takes 0.4 ms to load, of which most is for other things.
export const ENOENT = 2
export const EINTR = 4
export const ENXIO = 6
export const EAGAIN = 11
export const ENODEV = 19
export const ENOTDIR = 20
export const EINVAL = 22
export const ENETDOWN = 100
export const ENETUNREACH = 101
export const ENOBUFS = 105

/** Names that node's table of texts lacks, or has another for (Linux 6.18). */
const MORE: Readonly<Record<number, string>> = {
  8: 'ENOEXEC',
  10: 'ECHILD',
  33: 'EDOM',
  35: 'EDEADLK',
  37: 'ENOLCK',
  42: 'ENOMSG',
  43: 'EIDRM',
  52: 'EBADE',
  54: 'EXFULL',
  60: 'ENOSTR',
  62: 'ETIME',
  63: 'ENOSR',
  67: 'ENOLINK',
  72: 'EMULTIHOP',
  74: 'EBADMSG',
  85: 'ERESTART',
  95: 'EOPNOTSUPP',
  102: 'ENETRESET',
  115: 'EINPROGRESS',
  116: 'ESTALE',
  122: 'EDQUOT',
  524: 'ENOTSUPP',
}

/** @param code A positive errno. @returns Its symbolic name, such as `EEXIST`, or `errno N`. */
export function errnoName(code: number): string {
  return MORE[code] ?? getSystemErrorMap().get(-code)?.[0] ?? `errno ${code}`
}

/** @param code A positive errno. @returns What it means, capitalised, such as `File already exists`. */
export function errnoText(code: number): string {
  const text = getSystemErrorMap().get(-code)?.[1] ?? 'Refused by the kernel'
  return text.charAt(0).toUpperCase() + text.slice(1)
}
