/** The libc functions that only the agent calls: a one-shot process does not pay for their prototypes. */
import { ENXIO } from './errno.ts'
import { c, checked, errno, libc } from './libc.ts'

// include/uapi/linux/fcntl.h
const F_DUPFD_CLOEXEC = 1030
// include/uapi/linux/if.h, IFNAMSIZ
const IF_NAMESIZE = 16

export const agentLibc = {
  listen: c.func('int listen(int fd, int backlog)') as (fd: number, backlog: number) => number,
  accept4: c.func('int accept4(int fd, void *address, void *length, int flags)') as (
    fd: number,
    address: null,
    length: null,
    flags: number,
  ) => number,
  getsockopt: c.func('int getsockopt(int fd, int level, int option, _Out_ uint8_t *value, _Inout_ uint32_t *length)') as (
    fd: number,
    level: number,
    option: number,
    value: Uint8Array,
    length: Uint32Array,
  ) => number,
  recvmsg: c.func('intptr_t recvmsg(int fd, uintptr_t message, int flags)') as (fd: number, message: bigint, flags: number) => number,
  sendto: c.func('intptr_t sendto(int fd, const uint8_t *data, size_t size, int flags, const uint8_t *address, unsigned int length)') as (
    fd: number,
    data: Uint8Array,
    size: number,
    flags: number,
    address: Uint8Array,
    length: number,
  ) => number,
  if_indextoname: c.func('const char *if_indextoname(unsigned int index, _Out_ uint8_t *name)') as (index: number, name: Uint8Array) => string | null,
  fcntl: c.func('int fcntl(int fd, int command, int argument)') as (fd: number, command: number, argument: number) => number,
  madvise: c.func('int madvise(uintptr_t address, size_t size, int advice)') as (address: bigint, size: bigint, advice: number) => number,
  execv: c.func('int execv(const char *path, const char **argv)') as (path: string, argv: readonly (string | null)[]) => number,
} as const

/** @returns Whether the namespace has a link with this index. The kernel answers without the lock that it holds while links come and go. */
export function hasLink(index: number): boolean {
  return agentLibc.if_indextoname(index, new Uint8Array(IF_NAMESIZE)) !== null || errno() !== ENXIO
}

/** @returns Another descriptor of the same, which the caller owns. */
export function duplicate(fd: number): number {
  return checked(agentLibc.fcntl(fd, F_DUPFD_CLOEXEC, 0), 'duplicate a descriptor')
}

type Send = typeof libc.send

/** send(2) on a thread of node's pool. @returns When it is over, well or not */
export function sendAside(fd: number, data: Uint8Array): Promise<void> {
  const send = libc.send as Send & { async(...args: [...Parameters<Send>, done: () => void]): void }
  const bytes = [data]
  // koffi keeps no more than the address of the data: what is called back keeps the data.
  return new Promise((resolve) => send.async(fd, data, data.length, 0, () => resolve(void bytes.pop())))
}
