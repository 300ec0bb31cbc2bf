import { readFileSync } from 'node:fs'

const never = new Int32Array(new SharedArrayBuffer(4))

/** Blocks the thread. @param ms Milliseconds, fractions allowed */
export function sleep(ms: number): void {
  Atomics.wait(never, 0, 0, ms)
}

/** @returns Milliseconds of a clock that never jumps. The global `performance` would load a module of node's for 1 ms. */
export function now(): number {
  return Number(process.hrtime.bigint()) / 1e6
}

/** @returns Milliseconds since the machine was started, those included that it has slept: it goes on when a process is followed by another. */
export function sinceBoot(): number {
  return Number.parseFloat(readFileSync('/proc/uptime', 'latin1')) * 1000
}
