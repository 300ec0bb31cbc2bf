/**
 * Hears from firewalld, over the system's D-Bus, that it has written its rules anew. Its backend nftables is heard in the kernel
 * too; what it writes through iptables-legacy is not. A bus that is absent or goes away is no error, but tried again.
 */
import { connect, type Socket } from 'node:net'
import { type DBusMessage, decodeMessage, encodeCall, METHOD_RETURN, SIGNAL } from '../wire/dbus.ts'
import type { Cause } from './cause.ts'

const DEFAULT_ADDRESS = 'unix:path=/run/dbus/system_bus_socket'
const RETRY_MS = 5_000
const FIREWALLD = 'org.fedoraproject.FirewallD1'
const BUS = { path: '/org/freedesktop/DBus', interface: 'org.freedesktop.DBus', destination: 'org.freedesktop.DBus' }
/** The bus itself sees to it that nobody else than these senders is heard. */
const MATCHES = [
  `type='signal',sender='${FIREWALLD}',interface='${FIREWALLD}',member='Reloaded'`,
  `type='signal',sender='${BUS.destination}',interface='${BUS.interface}',member='NameOwnerChanged',arg0='${FIREWALLD}'`,
]
const CALLS = [{ member: 'Hello', arguments: [] }, ...MATCHES.map((rule) => ({ member: 'AddMatch', arguments: [rule] }))]
const CAUSES: Readonly<Record<string, Cause>> = { Reloaded: 'firewalld reloaded', NameOwnerChanged: 'firewalld started or stopped' }

export interface FirewalldOptions {
  /** A D-Bus address; that of the system's bus when absent. Only `unix:path=` is understood. */
  readonly address: string | undefined
  /** Who the process is, for the bus: the kernel vouches for it. */
  readonly userID: number
  readonly onCause: (cause: Cause) => void
}

/** Listens from when the bus answers until it is disposed of. */
export class FirewalldSignals implements Disposable {
  readonly #options: FirewalldOptions
  #socket: Socket | undefined
  #retry: NodeJS.Timeout | undefined

  constructor(options: FirewalldOptions) {
    this.#options = options
    this.#connect()
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#retry)
    const socket = this.#socket
    this.#socket = undefined
    socket?.destroy()
  }

  #connect(): void {
    const path = socketPath(this.#options.address ?? DEFAULT_ADDRESS)
    if (path === undefined) return
    const stream = new SignalStream(this.#options.userID, this.#options.onCause)
    const socket = connect(path, () => socket.write(stream.greeting))
    this.#socket = socket
    socket.on('data', (data) => {
      try {
        for (const answer of stream.take(data)) socket.write(answer)
      } catch {
        // Whatever this is, it does not speak D-Bus: it may do so after its next start.
        socket.destroy()
      }
    })
    socket.on('error', () => {})
    socket.once('close', () => {
      if (this.#socket === socket) this.#retry = setTimeout(() => this.#connect(), RETRY_MS)
    })
  }
}

/** One conversation with the bus: SASL in lines, then messages. @see D-Bus Specification 0.43, "Authentication Protocol" */
class SignalStream {
  readonly greeting: string
  readonly #onCause: (cause: Cause) => void
  #rest: Buffer = Buffer.alloc(0)
  #authenticated = false
  #returns = 0

  constructor(userID: number, onCause: (cause: Cause) => void) {
    this.greeting = `\0AUTH EXTERNAL ${Buffer.from(String(userID)).toString('hex')}\r\n`
    this.#onCause = onCause
  }

  /** @returns What is to be answered. @throws RangeError when the other side does not keep to the protocol */
  take(data: Buffer): readonly (Buffer | string)[] {
    this.#rest = Buffer.concat([this.#rest, data])
    if (this.#authenticated) {
      this.#takeMessages()
      return []
    }
    const end = this.#rest.indexOf('\r\n')
    if (end < 0 && this.#rest.length < 1024) return []
    if (!this.#rest.toString('latin1', 0, 3).startsWith('OK ')) throw new RangeError('The bus does not let this process in')
    this.#rest = this.#rest.subarray(end + 2)
    this.#authenticated = true
    return ['BEGIN\r\n', ...CALLS.map((call, i) => encodeCall({ ...BUS, ...call, serial: i + 1 }))]
  }

  #takeMessages(): void {
    for (let message = decodeMessage(this.#rest); message !== undefined; message = decodeMessage(this.#rest)) {
      this.#rest = this.#rest.subarray(message.length)
      if (message.type === METHOD_RETURN) this.#returns++
      // What was sent before the bus knew of the last match was not heard.
      const cause = message.type === METHOD_RETURN && this.#returns === CALLS.length ? 'the bus answered' : causeOf(message)
      if (cause !== undefined) this.#onCause(cause)
    }
  }
}

/** The bus sends each newcomer signals about its own name, too. */
function causeOf({ type, member = '' }: DBusMessage): Cause | undefined {
  return type === SIGNAL && Object.hasOwn(CAUSES, member) ? CAUSES[member] : undefined
}

function socketPath(address: string): string | undefined {
  const [, path] = /(?:^|;)unix:path=([^,;]+)/.exec(address) ?? []
  return path === undefined ? undefined : decodeURIComponent(path)
}
