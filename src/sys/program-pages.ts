/** What the files of programs and libraries occupy in this process, and how a process that stays gives it back. */
import { readFileSync } from 'node:fs'
import { agentLibc } from './libc-agent.ts'

/** @see include/uapi/asm-generic/mman-common.h */
const MADV_DONTNEED = 4

export interface MappedRange {
  readonly address: bigint
  /** Bytes. */
  readonly size: bigint
}

/**
 * Takes the pages of mapped programs and libraries out of this process, as the kernel does by itself when memory is short. They stay in the page
 * cache, and what is used again comes back with a minor fault, 16 pages at a time. To be called once, when all is loaded: most of what node's
 * program occupies is used only while it starts (docs/decisions/0019).
 */
export function releaseProgramPages(): void {
  // One that is refused, such as memory that somebody has locked, stays.
  for (const { address, size } of programRanges(readFileSync('/proc/self/smaps', 'latin1'))) agentLibc.madvise(address, size, MADV_DONTNEED)
}

/**
 * @param smaps As proc_pid_smaps(5) describes it.
 * @returns What holds nothing but what is in the files: private, of a file, not writable, and without a page that was ever written to. The last
 *   leaves out what the dynamic linker has relocated and then protected (RELRO), which is in no file.
 */
export function programRanges(smaps: string): readonly MappedRange[] {
  return Array.from(smaps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) r-[-x]p \S+ \S+ [1-9]\d* .*((?:\n[A-Z].*)*)/gm), ([, begin, end, facts]) => {
    const address = BigInt(`0x${begin}`)
    return { address, size: BigInt(`0x${end}`) - address, isClean: /^Anonymous: +0 kB$/m.test(facts ?? '') }
  }).filter(({ isClean }) => isClean)
}
