/** Blocking IPv4 TCP sockets, both ends in this thread: one client, one server, and nothing of node between them and the kernel. */
import { closeSync } from 'node:fs'
import koffi from 'koffi'
import { openNetns, within } from '../src/sys/netns.ts'

// include/linux/socket.h, include/uapi/asm-generic/socket.h, include/linux/net.h
const AF_INET = 2
const SOCK_STREAM = 1
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_SNDBUF = 7
const SO_LINGER = 13
const SO_RCVTIMEO = 20
const SO_SNDTIMEO = 21
const BACKLOG = 128
/** Holds a whole chunk, so that a sender never waits for the receiver that comes after it in the same thread. */
const SEND_BUFFER = 400_000
const TIMEOUT_SECONDS = 5n

type Bytes = Uint8Array
const c = koffi.load(null)
const libc = {
  socket: c.func('int socket(int domain, int type, int protocol)') as (domain: number, type: number, protocol: number) => number,
  bind: c.func('int bind(int fd, const uint8_t *address, unsigned int length)') as (fd: number, address: Bytes, length: number) => number,
  listen: c.func('int listen(int fd, int backlog)') as (fd: number, backlog: number) => number,
  accept: c.func('int accept4(int fd, void *address, void *length, int flags)') as (fd: number, a: null, l: null, flags: number) => number,
  connect: c.func('int connect(int fd, const uint8_t *address, unsigned int length)') as (fd: number, address: Bytes, length: number) => number,
  setsockopt: c.func('int setsockopt(int fd, int level, int option, const uint8_t *value, unsigned int length)') as (
    fd: number,
    level: number,
    option: number,
    value: Bytes,
    length: number,
  ) => number,
  send: c.func('intptr_t send(int fd, const uint8_t *data, size_t length, int flags)') as (fd: number, data: Bytes, n: number, f: number) => number,
  recv: c.func('intptr_t recv(int fd, uint8_t *data, size_t length, int flags)') as (fd: number, data: Bytes, n: number, f: number) => number,
}

export interface Endpoint {
  readonly address: string
  readonly port: number
}

/** The two ends of one connection. */
export interface Connection extends Disposable {
  readonly client: number
  readonly server: number
}

/** A server in the namespace at `path`, on every address. */
export function listen(path: string, port: number): number {
  using netns = openNetns(path)
  return within(netns, () => {
    const fd = checked(libc.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), 'socket')
    const address = socketAddress({ address: '0.0.0.0', port })
    checked(libc.bind(fd, address, address.length), 'bind')
    checked(libc.listen(fd, BACKLOG), 'listen')
    return fd
  })
}

/** Opens, accepts and resets connections one after the other. @returns Connections per second */
export function connectionRate(client: string, listener: number, endpoint: Endpoint, count: number): number {
  using netns = openNetns(client)
  const address = socketAddress(endpoint)
  return within(netns, () => {
    const before = process.hrtime.bigint()
    for (let i = 0; i < count; i++) connectOnce(listener, address)[Symbol.dispose]()
    return (count * 1e9) / Number(process.hrtime.bigint() - before)
  })
}

export function connect(client: string, listener: number, endpoint: Endpoint): Connection {
  using netns = openNetns(client)
  return within(netns, () => connectOnce(listener, socketAddress(endpoint)))
}

/** Sends a chunk, takes it in at the other end, and again until the time is up. @returns Gigabits per second */
export function throughput(from: number, to: number, milliseconds: number): number {
  const chunk = new Uint8Array(128 * 1024)
  const inbox = new Uint8Array(chunk.length)
  const { rounds, seconds } = repeat(milliseconds, () => {
    if (libc.send(from, chunk, chunk.length, 0) !== chunk.length) throw new Error('A chunk was not sent whole')
    for (let taken = 0; taken < chunk.length; ) taken += received(libc.recv(to, inbox, chunk.length - taken, 0))
  })
  return (rounds * chunk.length * 8) / seconds / 1e9
}

/** A request of one byte and an answer of one byte, again and again. @returns Microseconds for one */
export function latency(a: number, b: number, milliseconds: number): number {
  const byte = new Uint8Array(1)
  const { rounds, seconds } = repeat(milliseconds, () => {
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      checked(libc.send(from, byte, 1, 0), 'send')
      received(libc.recv(to, byte, 1, 0))
    }
  })
  return (seconds * 1e6) / rounds
}

function connectOnce(listener: number, address: Bytes): Connection {
  const client = checked(libc.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), 'socket')
  option(client, SO_SNDTIMEO, timeout())
  // Closed with a reset: nothing stays in TIME_WAIT, and no port runs out.
  option(client, SO_LINGER, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0))
  checked(libc.connect(client, address, address.length), 'connect')
  const server = checked(libc.accept(listener, null, null, SOCK_CLOEXEC), 'accept')
  return {
    client,
    server,
    [Symbol.dispose]: () => {
      closeSync(client)
      closeSync(server)
    },
  }
}

/** Room for a chunk, and an error instead of waiting for ever. */
export function prepareForChunks({ client, server }: Connection): void {
  const size = new Uint8Array(new Uint32Array([SEND_BUFFER]).buffer)
  for (const fd of [client, server]) {
    option(fd, SO_SNDBUF, size)
    option(fd, SO_SNDTIMEO, timeout())
    option(fd, SO_RCVTIMEO, timeout())
  }
}

function repeat(milliseconds: number, once: () => void): { readonly rounds: number; readonly seconds: number } {
  const before = process.hrtime.bigint()
  const end = before + BigInt(milliseconds) * 1_000_000n
  for (let rounds = 1; ; rounds++) {
    once()
    const now = process.hrtime.bigint()
    if (now >= end) return { rounds, seconds: Number(now - before) / 1e9 }
  }
}

function option(fd: number, name: number, value: Bytes): void {
  checked(libc.setsockopt(fd, SOL_SOCKET, name, value, value.length), 'setsockopt')
}

/** `struct timeval`. */
function timeout(): Bytes {
  return new Uint8Array(new BigInt64Array([TIMEOUT_SECONDS, 0n]).buffer)
}

/** `struct sockaddr_in`. */
function socketAddress({ address, port }: Endpoint): Bytes {
  return Uint8Array.of(AF_INET, 0, port >> 8, port & 255, ...address.split('.').map(Number), 0, 0, 0, 0, 0, 0, 0, 0)
}

function received(bytes: number): number {
  if (bytes <= 0) throw new Error(`Cannot recv: ${bytes === 0 ? 'end of the connection' : `errno ${koffi.errno()}`}`)
  return bytes
}

function checked(result: number, call: string): number {
  if (result < 0) throw new Error(`Cannot ${call}: errno ${koffi.errno()}`)
  return result
}
