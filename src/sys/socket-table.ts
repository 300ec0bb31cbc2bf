/** The sockets of the current network namespace, as /proc/net lists them, and the processes that hold them. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { isErrno } from '../error.ts'

/** include/net/tcp_states.h */
const TCP_TIME_WAIT = 6
const TCP_LISTEN = 10

export type TransportProtocol = 'tcp' | 'udp' | 'sctp'

export interface SocketEntry {
  /** The local address, 4 or 16 bytes. */
  readonly address: Uint8Array
  readonly port: number
  /** `open`: it takes what arrives; `closing`: TIME_WAIT; `busy`: anything else. */
  readonly state: 'open' | 'closing' | 'busy'
  /** 0 when no process holds it any more. */
  readonly inode: number
}

export interface SocketHolder {
  readonly pid: number
  /** At most 15 printable characters of ASCII. */
  readonly name: string
  readonly argv: readonly string[]
}

/**
 * One pass over the tables of both families. A TCP socket that is bound and does not listen yet is in no table.
 * @returns The sockets whose local port is from `first` to `last`
 * @see net/ipv4/tcp_ipv4.c, get_tcp4_sock(); net/ipv4/udp.c, udp4_format_sock(); net/sctp/proc.c, sctp_eps_seq_show()
 */
export function listSockets(protocol: TransportProtocol, first: number, last: number): readonly SocketEntry[] {
  if (protocol === 'sctp')
    return linesOf('sctp/eps')
      .flatMap((line) => parseEndpoint(line))
      .filter(({ port }) => port >= first && port <= last)
  return [protocol, `${protocol}6`].flatMap((table) =>
    linesOf(table).flatMap((line) => {
      const [, hex = '', port = '', code = '', inode = ''] =
        /^ *\d+: ([0-9A-F]+):([0-9A-F]{4}) \S+ ([0-9A-F]{2}) \S+ \S+ \S+ +\d+ +\d+ (\d+)/.exec(line) ?? []
      const number = Number.parseInt(port, 16)
      if (!(number >= first && number <= last)) return []
      return [{ address: addressOf(hex), port: number, state: stateOf(protocol, Number.parseInt(code, 16)), inode: Number(inode) }]
    }),
  )
}

/** @returns Whether the kernel has SCTP now; making a socket would load it. */
export function hasSctp(): boolean {
  return linesOf('sctp/eps').length > 0
}

/** Looks at every open file of every process: for a refusal, not for every call. @returns The first that holds one of the sockets */
export function findSocketHolder(inodes: readonly number[]): SocketHolder | undefined {
  const wanted = new Set(inodes.filter((inode) => inode > 0).map((inode) => `socket:[${inode}]`))
  if (wanted.size === 0) return undefined
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const files = unlessGone(() => readdirSync(`/proc/${pid}/fd`)) ?? []
    if (files.some((fd) => wanted.has(unlessGone(() => readlinkSync(`/proc/${pid}/fd/${fd}`)) ?? ''))) return holder(pid)
  }
  return undefined
}

function holder(pid: string): SocketHolder {
  const read = (name: string) => unlessGone(() => readFileSync(`/proc/${pid}/${name}`, 'latin1')) ?? ''
  return {
    pid: Number(pid),
    name:
      read('comm')
        .trimEnd()
        .replace(/[^ -~]/g, '?') || '?',
    argv: read('cmdline').split('\0'),
  }
}

function stateOf(protocol: 'tcp' | 'udp', code: number): SocketEntry['state'] {
  if (protocol === 'udp') return 'open'
  return code === TCP_LISTEN ? 'open' : code === TCP_TIME_WAIT ? 'closing' : 'busy'
}

/** Words of 32 bits in the machine's own order, each as a number. */
function addressOf(hex: string): Uint8Array {
  return new Uint8Array(new Uint32Array((hex.match(/.{8}/g) ?? []).map((word) => Number.parseInt(word, 16))).buffer)
}

/** An endpoint has a list of addresses: ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS. */
function parseEndpoint(line: string): readonly SocketEntry[] {
  const [endpoint, , , , , port, , inode, ...addresses] = line.trim().split(/\s+/)
  if (endpoint === 'ENDPT') return []
  return addresses.map((text) => ({ address: endpointAddress(text), port: Number(port), state: 'open', inode: Number(inode) }))
}

/** 192.0.2.1, or eight groups of four digits. */
function endpointAddress(text: string): Uint8Array {
  return text.includes(':') ? Uint8Array.from(Buffer.from(text.replaceAll(':', ''), 'hex')) : Uint8Array.from(text.split('.'), Number)
}

function linesOf(table: string): readonly string[] {
  const text = unlessGone(() => readFileSync(`/proc/net/${table}`, 'latin1')) ?? ''
  return text === '' ? [] : text.trimEnd().split('\n')
}

/** Processes come and go while they are looked at, and a kernel may lack a table. */
function unlessGone<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH', 'EACCES', 'EPERM', 'ENOTDIR', 'EINVAL')) return undefined
    throw error
  }
}
