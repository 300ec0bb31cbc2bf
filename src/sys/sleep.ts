const never = new Int32Array(new SharedArrayBuffer(4))

/** Blocks the thread. @param ms Milliseconds, fractions allowed */
export function sleep(ms: number): void {
  Atomics.wait(never, 0, 0, ms)
}
