import { checked, libc } from './libc.ts'

const O_CLOEXEC = 0o2000000

export interface Pipe {
  readonly read: number
  readonly write: number
}

/** Opens a pipe that no program inherits. The caller owns both ends. */
export function openPipe(): Pipe {
  const fds = new Int32Array(2)
  checked(libc.pipe2(fds, O_CLOEXEC), 'create a pipe')
  const [read, write] = fds as unknown as [number, number]
  return { read, write }
}
