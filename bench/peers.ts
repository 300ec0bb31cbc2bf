/** Traffic between two processes, as applications have it: a node server and a node client. */
import { spawn } from 'node:child_process'
import { openNetns, within } from '../src/sys/netns.ts'
import { execute } from './measure.ts'
import type { Endpoint } from './sockets.ts'

/** What the client asks for with its first byte. */
export type Request = 'stream' | 'echo'

const SERVER = `
const net = require('node:net')
const chunk = Buffer.alloc(256 * 1024)
net.createServer((socket) => {
  socket.setNoDelay(true)
  socket.on('error', () => socket.destroy())
  socket.once('data', (first) => {
    if (first[0] === 101) {
      socket.on('data', (data) => socket.write(data))
      return socket.write(first)
    }
    const pump = () => { while (socket.write(chunk)); }
    socket.on('drain', pump)
    pump()
  })
}).listen(Number(process.argv[1]), '0.0.0.0')
`

const CLIENT = `
const net = require('node:net')
const [address, port, request, milliseconds] = process.argv.slice(1)
setTimeout(() => process.exit(3), 10_000 + Number(milliseconds))
const inbox = Buffer.alloc(256 * 1024)
let count = 0, began, since
const take = (n) => {
  const now = process.hrtime.bigint()
  began ??= now
  // Not counted: while the window opens and node compiles.
  if (since === undefined && now - began >= 100_000_000n) return void (since = now)
  if (since === undefined) return
  count += request === 'stream' ? n : 1
  if (now - since >= BigInt(milliseconds) * 1_000_000n) {
    console.log(count / (Number(now - since) / 1e9))
    process.exit(0)
  }
}
const socket = net.connect({ host: address, port: Number(port), noDelay: true, onread: { buffer: inbox, callback: (n) => {
  take(n)
  if (request === 'echo') socket.write('x')
  return true
} } }, () => { socket.write(request === 'echo' ? 'e' : 's') })
`

/** Runs until this process ends, and does not keep it: the pid namespace takes it along. */
export function startServer(path: string, port: number): void {
  using netns = openNetns(path)
  within(netns, () => spawn(process.execPath, ['-e', SERVER, String(port)], { stdio: 'ignore' }).unref())
}

/** @returns Bytes per second of a stream, or requests per second of an echo. */
export function ask(path: string, { address, port }: Endpoint, request: Request, milliseconds: number): number {
  using netns = openNetns(path)
  const args = ['-e', CLIENT, address, String(port), request, String(milliseconds)]
  return within(netns, () => Number(execute({ path: process.execPath, args }).stdout))
}
