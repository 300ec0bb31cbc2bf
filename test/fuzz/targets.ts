/** What reads hostile input: each target takes one made of good ones, and returns or throws as it is meant to. */
import { mock } from 'node:test'
import { decodeHeader, decodeRequest, HEADER_SIZE } from '../../src/agent/frame.ts'
import { requestedAddresses, requestedMac } from '../../src/cni/capabilities.ts'
import { parseCniArgs } from '../../src/cni/cni-args.ts'
import { parseConflist, pluginInput } from '../../src/cni/conflist.ts'
import { parsePortMappings } from '../../src/cni/port-mapping.ts'
import { parseConfig, parseEnvironment } from '../../src/cni/request.ts'
import { parseResult } from '../../src/cni/result.ts'
import { parseValidAttachments } from '../../src/cni/valid-attachments.ts'
import { leaseOwner } from '../../src/ipam/lease.ts'
import { salvage } from '../../src/ipam/salvage.ts'
import { parseSubnetEnv } from '../../src/ipam/subnet-env.ts'
import { parseSubnetText } from '../../src/ipam/subnet-file.ts'
import { openRtnetlink } from '../../src/netlink/rtnetlink.ts'
import { parseTsnetConfig } from '../../src/plugins/tsnet-config.ts'
import { libc } from '../../src/sys/libc.ts'
import { decodeAddress } from '../../src/wire/address.ts'
import { decodeConntrack } from '../../src/wire/conntrack.ts'
import { decodeMessage } from '../../src/wire/dbus.ts'
import { decodeFibRule } from '../../src/wire/fib-rule.ts'
import { decodeLink } from '../../src/wire/link.ts'
import { decodeAck, decodeMessages } from '../../src/wire/netlink-message.ts'
import { decodeNftables, nftables } from '../../src/wire/nftables.ts'
import { decodeRoute } from '../../src/wire/route.ts'
import { type Dice, mutateBytes, mutateJson, mutateText } from './mutation.ts'
import { CONFIG, CONFLIST, DATAGRAMS, DBUS, ENVIRONMENT, FRAMES, SUBNET_ENV, SUBNET_FILE, TRACES } from './seeds.ts'

const COMMANDS = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS'] as const
const CONFIGS: readonly object[] = [CONFIG, CONFIG, CONFIG, ...TRACES.map(({ stdin }) => stdin)]
const ENVIRONMENTS = [ENVIRONMENT, ...TRACES.map(({ env }) => env)]
const LONGEST_DUMP = 64

/** The kernel has no more to say. */
class Silence extends RangeError {}

/** How much of all inputs each gets, and what it does with one. */
export const TARGETS: Readonly<Record<string, { readonly share: number; readonly act: (dice: Dice) => void }>> = {
  environment: { share: 15, act: (dice) => void readEnvironment(dice) },
  configuration: { share: 30, act: readConfiguration },
  CNI_ARGS: { share: 8, act: (dice) => void parseCniArgs(mutateText(ENVIRONMENT['CNI_ARGS'] ?? '', dice)) },
  prevResult: {
    share: 8,
    act: (dice) => {
      const config = parseConfig(`{"cniVersion":"1.1.0","name":"a","prevResult":${mutateJson(CONFIG.prevResult, dice)}}`, 'ADD')
      if (config.prevResult !== undefined) parseResult(config.prevResult, config.cniVersion)
    },
  },
  conflist: { share: 8, act: readConflist },
  'subnet file': {
    share: 6,
    act: (dice) => {
      const text = mutateText(SUBNET_FILE, dice)
      salvage(text, '/x/web/subnet')
      parseSubnetText(text, '/x/web/subnet')
    },
  },
  'subnet.env': { share: 3, act: (dice) => void parseSubnetEnv(mutateText(SUBNET_ENV, dice)) },
  'netlink messages': { share: 12, act: (dice) => decodeAll(mutateBytes(dice.pick(DATAGRAMS), dice)) },
  'netlink answers': { share: 6, act: converse },
  "the agent's protocol": {
    share: 8,
    act: (dice) => {
      const frame = mutateBytes(dice.pick(FRAMES), dice)
      if (frame.length < HEADER_SIZE) return
      decodeHeader(frame.subarray(0, HEADER_SIZE))
      decodeRequest(frame.subarray(HEADER_SIZE))
    },
  },
  'D-Bus': { share: 4, act: (dice) => void decodeMessage(mutateBytes(dice.pick(DBUS), dice)) },
}

function readEnvironment(dice: Dice) {
  const env: Record<string, string> = { ...dice.pick(ENVIRONMENTS), CNI_COMMAND: dice.pick(COMMANDS) }
  const key = dice.pick(Object.keys(env))
  env[key] = mutateText(env[key] ?? '', dice)
  const environment = parseEnvironment(env)
  // Whatever is accepted can stand in a path, a rule and a line of the subnet file.
  if (environment.containerID !== '') leaseOwner(environment.containerID, environment.ifname)
  return environment
}

function readConfiguration(dice: Dice): void {
  const command = dice.pick(COMMANDS)
  const config = parseConfig(mutateJson(dice.pick(CONFIGS), dice), command)
  const first = attempt(() => parseTsnetConfig(config))
  const wishes = { ...config, cniArgs: { others: new Map() } }
  const parts = [
    () => parsePortMappings(config.runtimeConfig),
    () => requestedAddresses(wishes),
    () => requestedMac(wishes),
    () => parseValidAttachments(config.raw),
    () => config.prevResult && parseResult(config.prevResult, config.cniVersion),
  ]
  // One that refuses must not keep the others from being tried.
  const failure = [first, ...parts.map(attempt)].find((error) => error !== undefined)
  if (failure !== undefined) throw failure
}

function attempt(read: () => unknown): unknown {
  try {
    read()
    return undefined
  } catch (error) {
    return error
  }
}

function readConflist(dice: Dice): void {
  const list = parseConflist(mutateJson(CONFLIST, dice))
  for (const plugin of list.plugins) pluginInput(list, plugin, { capabilityArgs: CONFIG.runtimeConfig, command: dice.pick(COMMANDS) })
}

function decodeAll(datagram: Buffer): void {
  const decoders = [
    decodeLink,
    decodeAddress,
    decodeRoute,
    decodeFibRule,
    decodeConntrack,
    ...Object.values(nftables).map((table) => (body: Buffer) => decodeNftables(body, table)),
  ]
  for (const message of decodeMessages(datagram)) {
    const failures = [attempt(() => decodeAck(message)), ...decoders.map((decode) => attempt(() => decode(message.body)))]
    const unexpected = failures.find((error) => error !== undefined && !(error instanceof RangeError))
    if (unexpected !== undefined) throw unexpected
  }
}

/** A socket whose kernel answers with anything: short, of a wrong length, to another request, endless. */
function converse(dice: Dice): void {
  using socket = openRtnetlink()
  let answers = dice.roll(4)
  const send = mock.method(libc, 'send', (_fd: number, _bytes: Uint8Array, length: number) => length)
  const recv = mock.method(libc, 'recv', (_fd: number, bytes: Uint8Array) => {
    if (answers-- === 0) throw new Silence('The kernel says nothing any more')
    const answer = mutateBytes(dice.pick(DATAGRAMS), dice).subarray(0, bytes.length)
    // Half of them are answers to what was asked.
    if (answer.length >= 16 && dice.roll(2) === 0) answer.writeUInt32LE(1, 8)
    bytes.set(answer)
    return answer.length
  })
  const request = { operation: 'ask', type: 18, body: () => {} }
  try {
    const kind = dice.roll(3)
    if (kind === 0) socket.execute(request)
    else if (kind === 1) socket.find(request, 19, (message) => decodeLink(message.body))
    else if (socket.dump(request, (message) => decodeLink(message.body)).length > LONGEST_DUMP) throw new Error('A dump without an end')
  } finally {
    send.mock.restore()
    recv.mock.restore()
  }
}
