/** As much of gRPC and of protocol buffers as four calls of the Container Runtime Interface need. */
import { connect } from 'node:http2'
import net from 'node:net'

const WIRE_VARINT = 0
const WIRE_BYTES = 2
const CALL_MS = 20_000

function varint(value) {
  const bytes = []
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest])
    bytes.push((rest % 128) | 128)
  }
}

/** @param fields `[[number, value]]`; a value is a text, a number, or fields again @returns The message */
export function encode(fields) {
  return Buffer.concat(
    fields.flatMap(([number, value]) => {
      if (typeof value === 'number') return [varint(number * 8 + WIRE_VARINT), varint(value)]
      const bytes = typeof value === 'string' ? Buffer.from(value) : encode(value)
      return [varint(number * 8 + WIRE_BYTES), varint(bytes.length), bytes]
    }),
  )
}

/** @returns The values of each field number: Buffers and numbers */
export function decode(message) {
  const fields = {}
  let at = 0
  const next = () => {
    let value = 0
    for (let factor = 1; ; factor *= 128) {
      const byte = message[at++]
      if (byte === undefined) throw new Error('The message ends within a number')
      value += (byte & 127) * factor
      if (byte < 128) return value
    }
  }
  while (at < message.length) {
    const key = next()
    const [number, wire] = [Math.floor(key / 8), key % 8]
    if (wire !== WIRE_VARINT && wire !== WIRE_BYTES) throw new Error(`Field ${number} has the unexpected wire type ${wire}`)
    let value = next()
    if (wire === WIRE_BYTES) {
      at += value
      value = message.subarray(at - value, at)
    }
    fields[number] = [...(fields[number] ?? []), value]
  }
  return fields
}

/** A connection to a gRPC service on a Unix socket. */
export class Client {
  #session

  constructor(socket) {
    this.#session = connect('http://localhost', { createConnection: () => net.connect(socket) })
    this.#session.on('error', () => {}) // each call reports it
  }

  /** @returns The decoded answer @throws Error with the status's text */
  call(path, fields) {
    const body = encode(fields)
    const head = Buffer.alloc(5)
    head.writeUInt32BE(body.length, 1)
    return new Promise((resolve, reject) => {
      const stream = this.#session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' })
      const chunks = []
      let outcome = {}
      const observe = (headers) => {
        outcome = { ...outcome, ...headers }
      }
      stream.setTimeout(CALL_MS, () => stream.destroy(new Error(`${path}: no answer within ${CALL_MS} ms`)))
      stream.on('response', observe)
      stream.on('trailers', observe)
      stream.on('data', (chunk) => chunks.push(chunk))
      stream.on('error', reject)
      stream.on('close', () => {
        if (outcome['grpc-status'] === '0') resolve(decode(Buffer.concat(chunks).subarray(5)))
        else reject(new Error(`${path}: status ${outcome['grpc-status']}: ${decodeURIComponent(outcome['grpc-message'] ?? '')}`))
      })
      stream.end(Buffer.concat([head, body]))
    })
  }

  close() {
    this.#session.destroy()
  }
}
