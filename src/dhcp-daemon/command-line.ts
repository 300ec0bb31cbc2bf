/** The options of `dhcp daemon`: those of containernetworking/plugins' daemon, written as Go's flags are. */
import { isAbsolute } from 'node:path'
import { TsnetError } from '../error.ts'
import { DEFAULT_SOCKET } from './protocol.ts'

export interface DaemonOptions {
  readonly socketPath: string
  /** Where to write the process id; absent: nowhere. */
  readonly pidFile?: string
  /** Stands before the paths of socket and namespaces, for a daemon in a container that sees the host's files there. */
  readonly hostPrefix: string
  readonly broadcast: boolean
  readonly timeoutMs: number
  readonly resendMaxMs: number
  readonly resendTimeoutMs: number
}

export const USAGE = `Usage: dhcp daemon [options]

Gets leases from DHCP servers for containers whose network has "ipam": { "type": "dhcp" }, and renews them.

  -socketpath path       where plugins find the daemon (${DEFAULT_SOCKET})
  -hostprefix path       where a daemon in a container sees the host's files: stands before the paths of socket and namespaces
  -pidfile path          where to write the process id
  -broadcast             ask servers to answer to everybody: for interfaces that share a hardware address, such as ipvlan's
  -timeout duration      how long the answer to one message is listened for (10s)
  -resendmax duration    the longest pause between two messages (62s)
  -resendtimeout duration  after which an ADD without a lease fails (3m28s)

An option may begin with one dash or two; a duration is written 500ms, 10s, 3m28s.

Examples:
  dhcp daemon
  dhcp daemon -socketpath /run/cni/dhcp.sock -resendtimeout 30s
`

const DEFAULTS: DaemonOptions = {
  socketPath: DEFAULT_SOCKET,
  hostPrefix: '',
  broadcast: false,
  timeoutMs: 10_000,
  resendMaxMs: 62_000,
  resendTimeoutMs: 208_000,
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }
const SHORTEST_MS = 10
const LONGEST_MS = 24 * 3_600_000

/** Reads one value each; `broadcast` is the only one that may stand without. */
const READERS: ReadonlyMap<string, (value: string, name: string) => Partial<DaemonOptions>> = new Map(
  Object.entries({
    socketpath: (value: string, name: string): Partial<DaemonOptions> => (value === '' ? {} : { socketPath: absolute(value, name) }),
    pidfile: (value: string, name: string): Partial<DaemonOptions> => (value === '' ? {} : { pidFile: absolute(value, name) }),
    hostprefix: (value: string, name: string): Partial<DaemonOptions> =>
      value === '' ? {} : { hostPrefix: absolute(value, name).replace(/\/+$/, '') },
    broadcast: (value: string, name: string): Partial<DaemonOptions> => ({ broadcast: truth(value, name) }),
    timeout: (value: string, name: string): Partial<DaemonOptions> => ({ timeoutMs: duration(value, name) }),
    resendmax: (value: string, name: string): Partial<DaemonOptions> => ({ resendMaxMs: duration(value, name) }),
    resendtimeout: (value: string, name: string): Partial<DaemonOptions> => ({ resendTimeoutMs: duration(value, name) }),
  }),
)

/**
 * @param words What follows `dhcp daemon`.
 * @returns undefined when help is asked for
 * @throws TsnetError TSNET_USAGE, CNI code 4
 * @see Go flag package, "Command line flag syntax"
 */
export function parseDaemonOptions(words: readonly string[]): DaemonOptions | undefined {
  let options = DEFAULTS
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as string
    const [, name, value] = /^--?([a-z]+)(?:=(.*))?$/s.exec(word) ?? []
    if (name === 'h' || name === 'help') return undefined
    const read = name === undefined ? undefined : READERS.get(name)
    if (name === undefined || read === undefined) throw usageError(`There is no option ${JSON.stringify(word)}`)
    if (value !== undefined) options = { ...options, ...read(value, name) }
    else if (name === 'broadcast') options = { ...options, broadcast: true }
    else if (i + 1 < words.length) options = { ...options, ...read(words[++i] as string, name) }
    else throw usageError(`The option ${JSON.stringify(word)} needs a value`)
  }
  return options
}

function absolute(value: string, name: string): string {
  if (isAbsolute(value) && !value.includes('\0')) return value
  throw usageError(`-${name} ${JSON.stringify(value)} is no absolute path`)
}

/** @see Go strconv.ParseBool */
function truth(value: string, name: string): boolean {
  if (/^(1|t|true)$/i.test(value)) return true
  if (/^(0|f|false)$/i.test(value)) return false
  throw usageError(`-${name}=${JSON.stringify(value)} is neither true nor false`)
}

/** @see Go time.ParseDuration */
function duration(value: string, name: string): number {
  const parts = /^(\d+(\.\d+)?(ms|s|m|h))+$/.test(value) ? [...value.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)] : []
  const total = parts.reduce((sum, [, number, unit]) => sum + Number(number) * (UNIT_MS[unit as string] ?? 0), 0)
  if (total >= SHORTEST_MS && total <= LONGEST_MS) return total
  throw usageError(`-${name} ${JSON.stringify(value)} is no duration from 10ms to 24h`)
}

function usageError(message: string): TsnetError {
  return new TsnetError('TSNET_USAGE', message, { cniCode: 4, hint: 'dhcp daemon --help shows what there is' })
}
