import { checked } from './libc.ts'
import { agentLibc } from './libc-agent.ts'

// include/uapi/asm-generic/fcntl.h
const F_SETFD = 2
const F_GETFL = 3
const F_SETFL = 4
const O_NONBLOCK = 0o4000

/**
 * Becomes another program, with the process id and the environment of this one.
 * @param fds Descriptors that it gets beside standard input, output and error.
 * @throws KernelError when it cannot
 */
export function become(path: string, args: readonly string[], fds: readonly number[] = []): never {
  for (const fd of [0, 1, 2, ...fds]) {
    // Node has all that it was started with closed on exec, and makes pipes non-blocking.
    agentLibc.fcntl(fd, F_SETFD, 0)
    agentLibc.fcntl(fd, F_SETFL, agentLibc.fcntl(fd, F_GETFL, 0) & ~O_NONBLOCK)
  }
  checked(agentLibc.execv(path, [path, ...args, null]), `run "${path}"`)
  throw new Error(`The program "${path}" ran and came back`)
}
