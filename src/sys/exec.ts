import { checked } from './libc.ts'
import { agentLibc } from './libc-agent.ts'

/** Becomes another program, with the process id and the environment of this one. @throws KernelError when it cannot */
export function become(path: string, args: readonly string[]): never {
  checked(agentLibc.execv(path, [path, ...args, null]), `run "${path}"`)
  throw new Error('unreachable')
}
