import { readFileSync, writeFileSync } from 'node:fs'
import { isErrno, unlessErrno } from '../error.ts'

/**
 * @param key Path below /proc/sys, such as `net/ipv4/ip_forward`. It is read in the current network namespace.
 * @returns The value without its line break, or undefined when the kernel has no such key.
 */
export function readSysctl(key: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${key}`, 'utf8').trimEnd()
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

/** Writes a kernel parameter of the current network namespace. */
export function writeSysctl(key: string, value: string): void {
  writeFileSync(`/proc/sys/${key}`, value)
}

/** Writes without looking, for what has just come into being. @returns false when the kernel has no such key */
export function setSysctl(key: string, value: string): boolean {
  return unlessErrno(['ENOENT'], () => writeFileSync(`/proc/sys/${key}`, value, { flag: 'r+' }))
}

/** Writes only when the value differs. @returns The former value, or undefined when nothing was written. */
export function ensureSysctl(key: string, value: string): string | undefined {
  const former = readSysctl(key)
  if (former === undefined || former === value) return undefined
  writeSysctl(key, value)
  return former
}
