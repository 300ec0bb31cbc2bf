// Runs inside a network namespace and does what test/netns/talker.ts asks for, one JSON object a line: serves, asks.
import { createSocket } from 'node:dgram'
import { createConnection, createServer, Socket } from 'node:net'
import { createInterface } from 'node:readline'

const TIMEOUT_MS = 5000
const RETRY_MS = 200
const servers = new Map()
const held = new Map()

const actions = {
  /** Answers everything with who is speaking and whom it hears. */
  serve: async ({ protocol, address, port, name, standing }) => {
    const fd = protocol === 'sctp' ? (await import('./sctp.mjs')).bindSctp(address, port) : undefined
    return new Promise((resolve, reject) => {
      const document = (peer, peerPort) => JSON.stringify({ name, peer: plain(peer), peerPort, port })
      if (protocol === 'udp') {
        const socket = createSocket(address.includes(':') ? { type: 'udp6', ipv6Only: true } : { type: 'udp4' })
        socket.on('message', (_, { address: peer, port: peerPort }) => socket.send(document(peer, peerPort), peerPort, peer))
        socket.once('error', reject)
        socket.bind(port, address, () => resolve(keep(protocol, address, port, socket)))
        return
      }
      const server = createServer((socket) => {
        socket.on('error', () => {})
        // Whoever asked may be gone already.
        if (socket.remoteAddress === undefined) return socket.destroy()
        const answer = document(socket.remoteAddress, socket.remotePort)
        if (standing) socket.on('data', () => socket.write(answer))
        else socket.end(answer)
      })
      server.once('error', reject)
      const listened = fd === undefined ? { port, host: address, ipv6Only: address.includes(':') } : { fd }
      server.listen(listened, () => resolve(keep(protocol, address, port, server)))
    })
  },
  close: ({ protocol, address, port }) => new Promise((resolve) => servers.get(`${protocol} ${address} ${port}`).close(() => resolve({}))),
  ask: (question) => ({ tcp: askTcp, udp: askUdp, sctp: askSctp })[question.protocol](question),
  /** Opens a TCP connection to a standing server, or goes on with the one that it opened before. */
  hold: (question) => say(connection(question), question),
  drop: async (question) => {
    held.get(nameOf(question)).destroy()
    held.delete(nameOf(question))
    return {}
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, action, ...options } = JSON.parse(line)
  actions[action](options).then(
    (answer) => console.log(JSON.stringify({ id, answer })),
    (error) => console.log(JSON.stringify({ id, error: error.code ?? error.message })),
  )
}

// Whoever asked is gone, and with him the use of all servers.
process.exit(0)

function askTcp({ address, port, localAddress, localPort, timeoutMs = TIMEOUT_MS }) {
  const socket = createConnection({ host: address, port, ...(localAddress && { localAddress }), ...(localPort && { localPort }) })
  return heard(socket, timeoutMs)
}

async function askSctp({ address, port, timeoutMs = TIMEOUT_MS }) {
  const { connectSctp } = await import('./sctp.mjs')
  return heard(new Socket({ fd: connectSctp(address, port, timeoutMs) }), timeoutMs)
}

/** What the other side says until it ends. */
function heard(socket, timeoutMs) {
  return new Promise((resolve, reject) => {
    let text = ''
    socket.setTimeout(timeoutMs, () => socket.destroy(new Error('no answer')))
    socket.on('data', (data) => (text += data))
    socket.once('error', reject)
    socket.once('end', () => (text === '' ? reject(new Error('ended without an answer')) : resolve(JSON.parse(text))))
  })
}

function connection({ address, port, localPort }) {
  const name = nameOf({ address, port, localPort })
  const socket = held.get(name) ?? createConnection({ host: address, port, ...(localPort && { localPort }) }).on('error', () => {})
  held.set(name, socket)
  return socket
}

function say(socket, { timeoutMs = TIMEOUT_MS }) {
  return new Promise((resolve, reject) => {
    const limit = setTimeout(() => reject(new Error('no answer')), timeoutMs)
    socket.once('error', reject)
    socket.once('close', () => reject(new Error('closed')))
    socket.once('data', (data) => resolve(JSON.parse(data)))
    socket.write('?')
    socket.once('close', () => clearTimeout(limit)).once('data', () => clearTimeout(limit))
  })
}

function nameOf({ address, port, localPort }) {
  return `${address} ${port} ${localPort ?? ''}`
}

/** A datagram may get lost, so it is sent again until the answer comes. A socket that is connected also learns that it is refused. */
function askUdp({ address, port, localPort, expect, connected = false, timeoutMs = TIMEOUT_MS }) {
  return new Promise((resolve, reject) => {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
    const send = () => (connected ? socket.send('?', () => {}) : socket.send('?', port, address, () => {}))
    let again
    const start = (error) => {
      if (error) return finish(reject, error)
      send()
      again = setInterval(send, RETRY_MS)
    }
    const finish = (end, value) => {
      clearInterval(again)
      clearTimeout(limit)
      socket.close()
      end(value)
    }
    let last = 'no answer'
    const limit = setTimeout(() => finish(reject, new Error(last)), timeoutMs)
    socket.on('error', (error) => finish(reject, error))
    socket.on('message', (data) => {
      const answer = JSON.parse(data)
      if (expect === undefined || answer.name === expect) finish(resolve, answer)
      else last = `only ${answer.name} answers`
    })
    socket.bind(localPort ?? 0, () => (connected ? socket.connect(port, address, start) : start()))
  })
}

function keep(protocol, address, port, server) {
  servers.set(`${protocol} ${address} ${port}`, server)
  return {}
}

function plain(address) {
  return address.replace(/^::ffff:/, '')
}
