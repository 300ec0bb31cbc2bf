/** What a service manager and its services say to each other. @see systemd: sd_listen_fds(3), sd_notify(3) */
import { TsnetError } from '../error.ts'
import { sendDatagram } from '../sys/unix-socket.ts'

type Env = Readonly<Record<string, string | undefined>>

const FIRST_DESCRIPTOR = 3

/**
 * @param pid Our own: the variables may have been meant for a process that started this one.
 * @returns The descriptor of the socket that was handed down, or undefined.
 * @throws TsnetError when there are several
 */
export function handedDown(env: Env, pid: number): number | undefined {
  const { LISTEN_PID, LISTEN_FDS } = env
  if (LISTEN_FDS === undefined || LISTEN_PID !== String(pid)) return undefined
  if (LISTEN_FDS === '1') return FIRST_DESCRIPTOR
  throw new TsnetError('TSNET_AGENT', `Cannot serve on ${LISTEN_FDS} sockets that were handed down: one is expected`)
}

/** Tells the service manager, if there is one that wants to know. */
export function notify(env: Env, state: string): void {
  const path = env['NOTIFY_SOCKET']
  if (path !== undefined && path !== '') sendDatagram(path, state)
}
