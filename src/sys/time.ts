const never = new Int32Array(new SharedArrayBuffer(4))

/** Blocks the thread. @param ms Milliseconds, fractions allowed */
export function sleep(ms: number): void {
  Atomics.wait(never, 0, 0, ms)
}

/** @returns Milliseconds of a clock that never jumps. The global `performance` would load a module of node's for 1 ms. */
export function now(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
