/**
 * Every libc function that a one-shot call needs, as koffi prototypes: the one file that touches the FFI. Those that only the
 * agent needs are in libc-agent.ts.
 * The addon is loaded by path, past koffi's own loader, which costs 5 ms (docs/decisions/0001).
 */
import { join } from 'node:path'
import type * as Koffi from 'koffi'
import { KernelError } from '../error.ts'
import { errnoName, errnoText } from './errno.ts'

declare const TSNET_ADDON_DIR: string

// include/uapi/asm-generic/poll.h
const POLLIN = 1

const addon = { exports: {} }
process.dlopen(addon, join(__dirname, TSNET_ADDON_DIR, 'koffi.node'))
const koffi = addon.exports as typeof Koffi
export const c = koffi.load(null)

export const libc = {
  open: c.func('int open(const char *path, int flags, unsigned int mode)') as (path: string, flags: number, mode: number) => number,
  close: c.func('int close(int fd)') as (fd: number) => number,
  setns: c.func('int setns(int fd, int nstype)') as (fd: number, nstype: number) => number,
  unshare: c.func('int unshare(int flags)') as (flags: number) => number,
  ioctl: c.func('int ioctl(int fd, unsigned long request, intptr_t argument)') as (fd: number, request: number, argument: number) => number,
  geteuid: c.func('unsigned int geteuid()') as () => number,
  flock: c.func('int flock(int fd, int operation)') as (fd: number, operation: number) => number,
  socket: c.func('int socket(int domain, int type, int protocol)') as (domain: number, type: number, protocol: number) => number,
  connect: c.func('int connect(int fd, const uint8_t *address, unsigned int length)') as (fd: number, address: Uint8Array, length: number) => number,
  bind: c.func('int bind(int fd, const uint8_t *address, unsigned int length)') as (fd: number, address: Uint8Array, length: number) => number,
  setsockopt: c.func('int setsockopt(int fd, int level, int option, const uint8_t *value, unsigned int length)') as (
    fd: number,
    level: number,
    option: number,
    value: Uint8Array,
    length: number,
  ) => number,
  getsockopt: c.func('int getsockopt(int fd, int level, int option, _Inout_ uint8_t *value, _Inout_ unsigned int *length)') as (
    fd: number,
    level: number,
    option: number,
    value: Uint8Array,
    length: Uint32Array,
  ) => number,
  send: c.func('intptr_t send(int fd, const uint8_t *data, size_t length, int flags)') as (
    fd: number,
    data: Uint8Array,
    length: number,
    flags: number,
  ) => number,
  recv: c.func('intptr_t recv(int fd, _Out_ uint8_t *data, size_t length, int flags)') as (
    fd: number,
    data: Uint8Array,
    length: number,
    flags: number,
  ) => number,
  pipe2: c.func('int pipe2(_Out_ int *fds, int flags)') as (fds: Int32Array, flags: number) => number,
  abort: c.func('void abort(void)') as () => unknown,
  _exit: c.func('void _exit(int status)') as (status: number) => unknown,
  waitpid: c.func('int waitpid(int pid, _Out_ int *status, int options)') as (pid: number, status: Int32Array, options: number) => number,
  kill: c.func('int kill(int pid, int signal)') as (pid: number, signal: number) => number,
  poll: c.func('int poll(_Inout_ uint8_t *fds, unsigned long count, int timeout)') as (fds: Uint8Array, count: number, timeout: number) => number,
  posix_spawn: c.func(
    'int posix_spawn(_Out_ int *pid, const char *path, uint8_t *actions, const uint8_t *attributes, const char **argv, const char **envp)',
  ) as (
    pid: Int32Array,
    path: string,
    actions: Uint8Array,
    attributes: null,
    argv: readonly (string | null)[],
    envp: readonly (string | null)[],
  ) => number,
  posix_spawn_file_actions_init: c.func('int posix_spawn_file_actions_init(_Inout_ uint8_t *actions)') as (actions: Uint8Array) => number,
  posix_spawn_file_actions_adddup2: c.func('int posix_spawn_file_actions_adddup2(_Inout_ uint8_t *actions, int fd, int target)') as (
    actions: Uint8Array,
    fd: number,
    target: number,
  ) => number,
  posix_spawn_file_actions_destroy: c.func('int posix_spawn_file_actions_destroy(_Inout_ uint8_t *actions)') as (actions: Uint8Array) => number,
} as const

type Poll = (fds: Uint8Array, count: number, timeout: number) => number

/**
 * poll(2) on a thread of node's pool, which it occupies until then, without limit of time: for processes that stay.
 * @param fds Whatever becomes readable ends the wait; an error of a descriptor does too.
 */
export function waitReadable(fds: readonly number[]): Promise<void> {
  const records = Buffer.alloc(8 * fds.length)
  for (const [i, fd] of fds.entries()) {
    records.writeInt32LE(fd, 8 * i)
    records.writeInt16LE(POLLIN, 8 * i + 4)
  }
  const poll = libc.poll as Poll & { async(...args: [...Parameters<Poll>, done: (error: Error | null) => void]): void }
  return new Promise((resolve, reject) => poll.async(records, fds.length, -1, (error) => (error === null ? resolve() : reject(error))))
}

/** Memory that stays where it is, for structures that hold addresses. It is never given back. */
export interface FixedMemory {
  readonly address: bigint
  readonly bytes: Uint8Array<ArrayBuffer>
}

/** @param size Bytes. */
export function allocate(size: number): FixedMemory {
  const memory: unknown = koffi.alloc('uint8_t', size)
  return { address: koffi.address(memory), bytes: new Uint8Array(koffi.view(memory, size)) }
}

/** @returns errno of the last libc call of this thread. */
export function errno(): number {
  return koffi.errno()
}

/** Turns libc's -1 into an exception. @param operation What was tried, as it continues "Cannot …". @throws KernelError */
export function checked(result: number, operation: string): number {
  if (result >= 0) return result
  throw kernelError(operation, koffi.errno())
}

/** @returns The error for an errno that came by another way than a libc return value (a netlink ack, a spawn result). */
export function kernelError(operation: string, code: number, extendedAck?: string): KernelError {
  return new KernelError(operation, code, { name: errnoName(code), text: errnoText(code), extendedAck })
}
