import { readFileSync } from 'node:fs'

let known: string | undefined

/** @returns The id that the kernel drew at this boot: state that carries another one describes nothing that still exists. */
export function bootId(): string {
  known ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trimEnd()
  return known
}
