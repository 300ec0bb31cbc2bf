/** Waiting for descriptors, in the way of a program without an event loop. */
import { libc } from './libc.ts'

// include/uapi/asm-generic/poll.h
const POLLIN = 1
const POLLOUT = 4
const POLLERR = 8
const POLLHUP = 16

/**
 * @param writable A further descriptor, that is waited for until it can be written to.
 * @param timeoutMs Milliseconds; 0 looks without waiting, less than 0 waits for ever.
 * @returns The descriptors that are ready, or whose other end is gone; none when the time is over or a signal came.
 */
export function poll(readable: readonly number[], writable: number | undefined, timeoutMs: number): number[] {
  const fds = writable === undefined ? readable : [...readable, writable]
  const revents = run(
    fds.map((fd) => ({ fd, events: fd === writable ? POLLOUT : POLLIN })),
    timeoutMs,
  )
  return fds.filter((_, i) => revents[i] !== 0)
}

/** @returns Whether the other end of a connection has been closed. */
export function isHungUp(fd: number): boolean {
  return ((run([{ fd, events: 0 }], 0)[0] ?? 0) & (POLLHUP | POLLERR)) !== 0
}

/** `struct pollfd` is { int fd; short events; short revents }. */
function run(wanted: readonly { readonly fd: number; readonly events: number }[], timeoutMs: number): readonly number[] {
  const records = new DataView(new ArrayBuffer(8 * wanted.length))
  for (const [i, { fd, events }] of wanted.entries()) {
    records.setInt32(8 * i, fd, true)
    records.setInt16(8 * i + 4, events, true)
  }
  if (libc.poll(new Uint8Array(records.buffer), wanted.length, Math.ceil(timeoutMs)) < 0) return wanted.map(() => 0)
  return wanted.map((_, i) => records.getInt16(8 * i + 6, true))
}
