/** What the kernel alone takes for the objects of an ADD: its netlink messages, recorded once, sent again by a program in C. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { inOneShot } from './agent.ts'
import { type Contender, tsnet } from './contender.ts'
import { execute, run } from './measure.ts'
import { type CaseOptions, container } from './series.ts'

declare const TSNET_ROOT: string

const PROGRAM = '/run/bench-floor'
const TRACE = '/run/bench-floor-trace'
const RECORDING = '/run/bench-floor-recording'
const PORT = 45_000
/** Where the hexadecimal digits stand in a line of strace's dump. */
const DIGITS = [10, 59] as const

// include/uapi/linux/netlink.h, rtnetlink.h, nfnetlink.h
const PROTOCOLS: Readonly<Record<string, number>> = { NETLINK_ROUTE: 0, NETLINK_NETFILTER: 12 }
const NLMSG_HDRLEN = 16
const NLM_F_ACK = 4
const NFNL_MSG_BATCH_BEGIN = 0x10
const SIZEOF_NFGENMSG = 4
/** RTM_NEWLINK, RTM_SETLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWRULE: what makes or changes something. */
const MAKING: ReadonlySet<number> = new Set([16, 19, 20, 24, 32])

/** The network that it belongs to is made by the case, and has an attachment that stands. */
const NETWORK = { network: 'native', config: { backend: 'nftables', bridge: 'native0' } }

interface Message {
  readonly protocol: number
  readonly inside: boolean
  readonly bytes: Buffer
}

/** @returns One who makes what an ADD makes and nothing else; or nothing where strace or a C compiler is missing. */
export function prepareFloor({ plugin, progress }: CaseOptions): Contender | undefined {
  try {
    run('cc', '-O2', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Werror', '-static', '-o', PROGRAM, join(TSNET_ROOT, 'bench/floor.c'))
    run('strace', '--version')
  } catch (error) {
    progress(`the floor is not measured: ${error instanceof Error ? error.message : String(error)}`)
    return undefined
  }
  const recorded = container('floor', PORT)
  const plain = tsnet(plugin, { ...NETWORK, execute: inOneShot })
  const args = ['-f', '-e', 'signal=none', '-e', 'write=all', '-e', 'trace=setns,socket,sendto', '-o', TRACE, plugin]
  const { result } = tsnet(plugin, { ...NETWORK, execute: (execution) => inOneShot({ ...execution, path: 'strace', args }) }).add(recorded)
  plain.del(recorded, result)
  const trace = readFileSync(TRACE, 'utf8')
  const messages = messagesOf(trace)
  progress(`the floor sends ${messages.length} messages`)
  writeFileSync(RECORDING, Buffer.concat(messages.map(encode)))
  return {
    name: 'floor',
    add: ({ netns }) => ({ cost: execute({ path: PROGRAM, args: [netns, RECORDING, namespaceNumber(trace)] }), result }),
    del: ({ netns }) => plain.del({ ...recorded, netns }, result),
    stages: () => [],
    forget: () => {},
  }
}

/** The descriptor by which the recorded messages name the container's namespace: the one that is entered first. */
function namespaceNumber(trace: string): string {
  const number = /setns\((\d+), CLONE_NEWNET/.exec(trace)?.[1]
  if (number === undefined) throw new Error('The recorded ADD entered no namespace')
  return number
}

/** tsnet enters the container's namespace and comes back, by turns. */
function messagesOf(trace: string): readonly Message[] {
  const messages: Message[] = []
  const sockets = new Map<string, { readonly protocol: number; readonly inside: boolean }>()
  let inside = false
  for (const call of trace.split(/^\d+ +(?=\w+\()/m)) {
    if (/^setns\(.* = 0/.test(call)) inside = !inside
    const [, protocol, opened] = /^socket\(AF_NETLINK, .*, (NETLINK_\w+)\) += (\d+)/.exec(call) ?? []
    if (protocol !== undefined && opened !== undefined) sockets.set(opened, { protocol: PROTOCOLS[protocol] ?? 0, inside })
    const socket = sockets.get(/^sendto\((\d+),/.exec(call)?.[1] ?? '')
    if (socket === undefined) continue
    const hex = call.split('\n').flatMap((line) => (line.startsWith(' | ') ? line.slice(...DIGITS) : []))
    const bytes = Buffer.from(hex.join('').replaceAll(' ', ''), 'hex')
    const type = bytes.readUInt16LE(4)
    const batch = socket.protocol === PROTOCOLS['NETLINK_NETFILTER']
    if (batch && type === NFNL_MSG_BATCH_BEGIN) messages.push({ ...socket, bytes: withoutGeneration(bytes) })
    if (!batch && MAKING.has(type)) messages.push({ ...socket, bytes })
  }
  return messages
}

/** The first message of a batch names the generation of the rules that it was made for, which is another one by now. */
function withoutGeneration(batch: Buffer): Buffer {
  const size = NLMSG_HDRLEN + SIZEOF_NFGENMSG
  const begin = Buffer.from(batch.subarray(0, size))
  begin.writeUInt32LE(size, 0)
  return Buffer.concat([begin, batch.subarray(batch.readUInt32LE(0))])
}

/** As floor.c reads it. */
function encode({ protocol, inside, bytes }: Message): Buffer {
  const head = Buffer.alloc(16)
  for (const [i, value] of [protocol, inside ? 1 : 0, bytes.length, acknowledgements(bytes)].entries()) head.writeUInt32LE(value, 4 * i)
  return Buffer.concat([head, bytes])
}

function acknowledgements(bytes: Buffer): number {
  let count = 0
  for (let at = 0; at + NLMSG_HDRLEN <= bytes.length; at += (bytes.readUInt32LE(at) + 3) & ~3) {
    if ((bytes.readUInt16LE(at + 6) & NLM_F_ACK) !== 0) count++
  }
  return count
}
