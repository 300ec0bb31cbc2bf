/** Blocking netlink sockets: one request, one ack, one possible error. @see kernel: net/netlink/af_netlink.c */
import { closeSync } from 'node:fs'
import { type KernelError, TsnetError } from '../error.ts'
import { EAGAIN, EINTR } from '../sys/errno.ts'
import { checked, errno, kernelError, libc } from '../sys/libc.ts'
import { remainingMs, timeOver } from '../sys/time-limit.ts'
import type { ByteWriter } from '../wire/byte-writer.ts'
import {
  decodeAck,
  decodeMessages,
  encodeMessage,
  type Message,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_NOOP,
} from '../wire/netlink-message.ts'

// include/linux/socket.h, include/uapi/linux/netlink.h
const AF_NETLINK = 16
const SOCK_RAW = 3
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_RCVTIMEO = 20
const SO_SNDBUFFORCE = 32
const SO_RCVBUFFORCE = 33
const SOL_NETLINK = 270
const NETLINK_CAP_ACK = 10
const NETLINK_EXT_ACK = 11
const NETLINK_GET_STRICT_CHK = 12
export const NETLINK_ROUTE = 0
export const NETLINK_NETFILTER = 12

/** How long the kernel may take for one answer, milliseconds, where no time limit is set. It answers at once, unless a lock of its own is held. */
const RECEIVE_TIMEOUT_MS = 30_000
const DUMP_ATTEMPTS = 10
const RECEIVE_BUFFER = 1 << 20
/** What a socket takes without asking for more, about. @see net.core.wmem_default */
const SEND_BUFFER = 200_000

/** Shared by all sockets. */
const received = Buffer.alloc(65536)

export interface Request {
  /** What is tried, as it continues "Cannot …". */
  readonly operation: string
  readonly type: number
  /** NLM_F_CREATE and the like; NLM_F_REQUEST is added. */
  readonly flags?: number
  readonly body: (writer: ByteWriter) => void
}

/** A netlink socket keeps the namespace in which it was opened. Whoever opened it disposes it. */
export class NetlinkSocket implements Disposable {
  /** For poll(2): readable when an answer has come. */
  readonly fd: number
  #sequence = 0
  #isWhole = true

  constructor(protocol: number) {
    this.fd = checked(libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol), 'open a netlink socket')
    const on = word(1)
    // Refused by kernels that do not know them, which then send less: no reason to fail.
    for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK]) libc.setsockopt(this.fd, SOL_NETLINK, option, on, 4)
    this.limitTime()
    libc.setsockopt(this.fd, SOL_SOCKET, SO_RCVBUFFORCE, word(RECEIVE_BUFFER), 4)
    // Connected to the kernel (port 0), the socket takes messages from nobody else.
    const kernel = Buffer.alloc(12)
    kernel.writeUInt16LE(AF_NETLINK)
    checked(libc.connect(this.fd, kernel, kernel.length), 'connect a netlink socket')
  }

  /** Whether it can be used again: no list was given up in the middle, which the kernel would go on with. */
  get isWhole(): boolean {
    return this.#isWhole
  }

  /** Each answer may take as long as what the thread does now. */
  limitTime(): void {
    // No time at all would mean no limit.
    const timeoutMs = Math.max(1, Math.ceil(remainingMs(RECEIVE_TIMEOUT_MS)))
    const microseconds = (timeoutMs % 1000) * 1000
    libc.setsockopt(this.fd, SOL_SOCKET, SO_RCVTIMEO, Buffer.concat([word(Math.floor(timeoutMs / 1000)), word(0), word(microseconds), word(0)]), 16)
  }

  [Symbol.dispose](): void {
    closeSync(this.fd)
  }

  /**
   * Sends a request and waits for its ack.
   * @param absent An errno that is no error.
   * @returns false when the kernel refused with `absent`
   * @throws KernelError with the extended ack's text
   */
  execute(request: Request, absent?: number): boolean {
    this.#send(request, (request.flags ?? 0) | NLM_F_REQUEST | NLM_F_ACK)
    return this.#receive(request.operation, () => false, absent)
  }

  /**
   * Half of {@link execute}, for a request that somebody else sends over this socket: the kernel keeps the sender until all is done.
   * @returns The message. {@link acknowledge} is the other half
   */
  prepare(request: Request): Uint8Array {
    return this.#encode(request, (request.flags ?? 0) | NLM_F_REQUEST | NLM_F_ACK)
  }

  /** Waits for the ack of the request that was prepared last. @returns What {@link execute} does */
  acknowledge(operation: string, absent?: number): boolean {
    return this.#receive(operation, () => false, absent)
  }

  /**
   * Asks for one object, whose message is the only answer: an ack behind it would be one more to receive.
   * @returns What `decode` made of the answer, or undefined when the kernel refuses with `absent`, an errno
   */
  find<T>(request: Request, absent: number, decode: (message: Message) => T): T | undefined {
    let answer: T | undefined
    this.#send(request, (request.flags ?? 0) | NLM_F_REQUEST)
    const take = (message: Message) => {
      answer = decode(message)
      return true
    }
    return this.#receive(request.operation, take, absent) ? answer : undefined
  }

  /** Asks for all objects; starts over when the kernel says that they changed meanwhile. */
  dump<T>(request: Request, decode: (message: Message) => T): readonly T[] {
    for (let attempt = 1; attempt <= DUMP_ATTEMPTS; attempt++) {
      const answers: T[] = []
      let interrupted = false
      this.#isWhole = false
      this.#send(request, (request.flags ?? 0) | NLM_F_REQUEST | NLM_F_DUMP)
      this.#receive(request.operation, (message) => {
        interrupted ||= (message.flags & NLM_F_DUMP_INTR) !== 0
        if (message.type === NLMSG_DONE) return true
        answers.push(decode(message))
        return false
      })
      this.#isWhole = true
      if (!interrupted) return answers
    }
    throw new TsnetError('TSNET_NETLINK', `Cannot ${request.operation}: it changed ${DUMP_ATTEMPTS} times while it was read`, { cniCode: 11 })
  }

  /**
   * Sends requests as one datagram between two marks, which the kernel takes as a transaction.
   * @throws KernelError of the first request that the kernel refused; then none took effect
   */
  executeBatch(requests: readonly Request[], marks: { readonly begin: Request; readonly end: Request }): void {
    const first = this.#sequence + 1
    const all = [marks.begin, ...requests, marks.end]
    const last = first + requests.length
    const messages = all.map((request) => {
      const sequence = ++this.#sequence
      const ack = sequence === last ? NLM_F_ACK : 0
      return Buffer.from(encodeMessage({ type: request.type, flags: (request.flags ?? 0) | NLM_F_REQUEST | ack, sequence }, request.body))
    })
    const datagram = Buffer.concat(messages)
    if (datagram.length > SEND_BUFFER / 4) libc.setsockopt(this.fd, SOL_SOCKET, SO_SNDBUFFORCE, word(2 * datagram.length), 4)
    checked(libc.send(this.fd, datagram, datagram.length, 0), marks.begin.operation)
    this.#receiveBatch(all, first, last)
  }

  /** The kernel answers what failed, then acks the last request, which says that all was looked at. */
  #receiveBatch(all: readonly Request[], first: number, last: number): void {
    let failure: KernelError | undefined
    for (;;) {
      for (const message of decodeMessages(this.#datagram('receive the answer to a transaction'))) {
        if (message.type !== NLMSG_ERROR || message.sequence < first) continue
        const ack = decodeAck(message)
        const operation = all[message.sequence - first]?.operation ?? 'commit a transaction'
        if (ack.errno !== 0) failure ??= kernelError(operation, ack.errno, ack.text)
        // A refusal of the first mark is the only answer: the transaction was not looked at.
        if (message.sequence !== last && message.sequence !== first) continue
        if (failure !== undefined) throw failure
        return
      }
    }
  }

  #encode(request: Request, flags: number): Buffer {
    return encodeMessage({ type: request.type, flags, sequence: ++this.#sequence }, request.body)
  }

  #send(request: Request, flags: number): void {
    const message = this.#encode(request, flags)
    checked(libc.send(this.fd, message, message.length, 0), request.operation)
  }

  /**
   * Receives until the ack, or until `take` says that a message was the last. Answers to earlier requests are passed over.
   * @returns false when the kernel refused with `absent`. An expected refusal is no exception, which would cost 0.6 ms.
   */
  #receive(operation: string, take: (message: Message) => boolean, absent?: number): boolean {
    for (;;) {
      for (const message of decodeMessages(this.#datagram(operation))) {
        if (message.sequence !== this.#sequence || message.type === NLMSG_NOOP) continue
        if (message.type === NLMSG_ERROR || (message.type === NLMSG_DONE && message.body.length >= 4)) {
          const ack = decodeAck(message)
          if (ack.errno === absent) return false
          if (ack.errno !== 0) throw kernelError(operation, ack.errno, ack.text)
          if (message.type === NLMSG_ERROR) return true
        }
        if (take(message)) return true
      }
    }
  }

  #datagram(operation: string): Buffer {
    for (;;) {
      const length = libc.recv(this.fd, received, received.length, 0)
      // One copy for the whole datagram, so that what is decoded from it may keep views of it.
      if (length >= 0) return Buffer.from(received.subarray(0, length))
      if (errno() === EAGAIN) throw timeOver(`the kernel did not answer the request to ${operation}`)
      if (errno() !== EINTR) throw kernelError(`${operation}: receive the kernel's answer`, errno())
    }
  }
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
