import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Action, type ClientEvent, type ClientState, dueAt, type Step, startClient, step } from './client.ts'
import { type ClientSettings, releaseMessage } from './client-message.ts'
import { BOOTREPLY, clientMessage, type DhcpMessage, MESSAGE } from './message.ts'
import type { Options } from './option.ts'

const MAC = Buffer.from('020000000001', 'hex')
const SERVER = { serverID: '10.0.0.1', subnetMask: '255.255.255.0' }
const settings: ClientSettings = {
  mac: MAC,
  clientID: Buffer.from('00616263', 'hex'),
  request: [1, 3],
  provide: [{ code: 60, payload: Buffer.from('v') }],
  broadcast: false,
  resendMaxMs: 62_000,
  resendTimeoutMs: 208_000,
}
const random = () => 0.5

/** A client with a clock of its own, and what it has done. */
class Run {
  now = 1000
  state: ClientState
  done: readonly Action[] = []

  constructor(more: Partial<ClientSettings> = {}) {
    this.settings = { ...settings, ...more }
    this.state = this.#take(startClient(this.settings, this.#moment()))
  }

  readonly settings: ClientSettings

  get xid(): number {
    return 'xid' in this.state ? this.state.xid : 0
  }

  /** Apart from the state, which the compiler would take for unchanged. */
  get kind(): ClientState['kind'] {
    return this.state.kind
  }

  /** The last message that went out. */
  get sent(): DhcpMessage {
    const last = this.done.findLast((action) => action.kind === 'send')
    assert.ok(last?.kind === 'send')
    return last.message
  }

  at(now: number): this {
    this.now = now
    return this.#event({ kind: 'time' })
  }

  /** Goes on to when it wants to be told the time. */
  due(): this {
    return this.at(dueAt(this.state))
  }

  hears(options: Options, more: Partial<DhcpMessage> = {}): this {
    const message = clientMessage({ xid: this.xid, chaddr: MAC, op: BOOTREPLY, yiaddr: '10.0.0.9', options: { ...SERVER, ...options }, ...more })
    return this.#event({ kind: 'answer', message, from: '020000000002' })
  }

  bind(leaseTime = 100): this {
    return this.hears({ messageType: MESSAGE.offer }).hears({ messageType: MESSAGE.ack, leaseTime })
  }

  #event(event: ClientEvent): this {
    this.state = this.#take(step(this.state, event, { settings: this.settings, moment: this.#moment() }))
    return this
  }

  #take({ state, actions }: Step): ClientState {
    this.done = actions
    return state
  }

  #moment() {
    return { now: this.now, random }
  }
}

test('a lease is discovered, offered, requested and confirmed', () => {
  const run = new Run()
  assert.equal(run.sent.options.messageType, MESSAGE.discover)
  assert.deepEqual(Buffer.from(run.sent.options.clientID ?? []), settings.clientID)
  run.now = 1500
  run.hears({ messageType: MESSAGE.offer })
  const { messageType, requestedAddress, serverID, parameters, unknown } = run.sent.options
  assert.deepEqual([messageType, requestedAddress, serverID, run.sent.ciaddr], [MESSAGE.request, '10.0.0.9', '10.0.0.1', '0.0.0.0'])
  assert.deepEqual([[...(parameters ?? [])], unknown], [[1, 3], settings.provide])
  run.now = 1700
  run.hears({ messageType: MESSAGE.ack, leaseTime: 100 })
  assert.ok(run.state.kind === 'bound')
  const { renewAt, rebindAt, expireAt } = run.state.lease
  assert.deepEqual([renewAt, rebindAt, expireAt], [51_500, 89_000, 101_500], 'counted from when it was asked for')
  assert.deepEqual(run.done, [{ kind: 'bound', lease: run.state.lease, how: 'acquired' }])
})

test('answers that are not to this question are nothing', () => {
  const run = new Run()
  const { state } = run
  run.hears({ messageType: MESSAGE.offer }, { xid: 7 }).hears({ messageType: MESSAGE.offer }, { chaddr: Buffer.alloc(6) })
  run.hears({ messageType: MESSAGE.offer }, { op: 1 }).hears({ messageType: MESSAGE.ack }).hears({ messageType: MESSAGE.nak })
  assert.equal(run.state, state)
  run.hears({ messageType: MESSAGE.offer }).hears({ messageType: MESSAGE.ack, leaseTime: 9 }, { yiaddr: '10.0.0.10' })
  assert.equal(run.kind, 'requesting')
  run.hears({ messageType: MESSAGE.nak, serverID: '10.0.0.2' })
  assert.equal(run.kind, 'requesting', 'another server refuses what this one has offered')
})

test('an offer that no container can use is passed over, and named when nothing better comes', () => {
  for (const [options, more, reason] of [
    [{ subnetMask: undefined }, {}, "a server's offer names no subnet mask"],
    [{ subnetMask: '255.0.255.0' }, {}, "a server's offer names the subnet mask 255.0.255.0"],
    [{}, { yiaddr: '0.0.0.0' }, "a server's offer names the address 0.0.0.0"],
    [{}, { yiaddr: '127.0.0.1' }, "a server's offer names the address 127.0.0.1"],
    [{ serverID: undefined }, {}, "a server's offer does not say which server it is from"],
  ] as const) {
    const run = new Run({ resendTimeoutMs: 500 })
    run.hears({ messageType: MESSAGE.offer, ...(options as Options) }, more)
    assert.equal(run.kind, 'selecting')
    assert.deepEqual(run.due().state, { kind: 'failed', reason })
  }
})

test('without an answer it asks after 2, 2, 2, 2, 4, 8, 16, 32, 62 and 62 seconds, and gives up after 208', () => {
  const run = new Run()
  const times = [run.now]
  for (run.due(); run.state.kind !== 'failed'; run.due()) times.push(run.now)
  const pauses = times.slice(1).map((time, i) => (time - (times[i] ?? 0)) / 1000)
  assert.deepEqual([...pauses, (run.now - 1000) / 1000], [2, 2, 2, 2, 4, 8, 16, 32, 62, 62, 208])
  assert.deepEqual(run.state, { kind: 'failed', reason: 'no server has answered' })
})

test('a server that offers and falls silent is asked four times, then all are asked anew', () => {
  const run = new Run().hears({ messageType: MESSAGE.offer })
  const types = [run.sent.options.messageType]
  for (let i = 0; i < 4; i++) types.push(run.due().sent.options.messageType)
  assert.deepEqual(types, [MESSAGE.request, MESSAGE.request, MESSAGE.request, MESSAGE.request, MESSAGE.discover])
})

test('a server that refuses what it has offered is asked again after a pause, and named in the end', () => {
  const run = new Run({ resendTimeoutMs: 3000 }).hears({ messageType: MESSAGE.offer })
  run.hears({ messageType: MESSAGE.nak, message: 'not "you"\u202e\n' })
  assert.deepEqual([run.kind, run.done], ['selecting', []])
  while (run.state.kind !== 'failed') run.due()
  assert.equal(run.state.reason, 'the server 10.0.0.1 refuses what it has offered: "not \\"you\\"??"')
})

test('a lease is renewed with its server, then with any, and lost when nobody answers', () => {
  const run = new Run().bind()
  run.due()
  assert.equal(run.kind, 'renewing')
  const [renewal] = run.done
  assert.ok(renewal?.kind === 'send')
  assert.deepEqual(renewal.server, { address: '10.0.0.1', mac: '020000000002' })
  const { requestedAddress, serverID, messageType } = renewal.message.options
  assert.deepEqual([messageType, requestedAddress, serverID, renewal.message.ciaddr], [MESSAGE.request, undefined, undefined, '10.0.0.9'])
  const kinds = new Set<string>()
  for (; run.state.kind === 'renewing' || run.state.kind === 'rebinding'; run.due()) {
    kinds.add(run.state.kind)
    const [action] = run.done
    assert.equal(action?.kind === 'send' && action.server !== undefined, run.state.kind === 'renewing')
  }
  assert.deepEqual([...kinds, run.state.kind, run.now], ['renewing', 'rebinding', 'selecting', 101_000])
  assert.deepEqual(
    run.done.map((action) => [action.kind, 'reason' in action ? action.reason : undefined]),
    [
      ['withdraw', 'it has expired'],
      ['send', undefined],
    ],
  )
  assert.equal(run.sent.options.requestedAddress, '10.0.0.9')
  run.hears({ messageType: MESSAGE.offer }, { yiaddr: '10.0.0.10' })
  assert.equal(run.kind, 'selecting', 'the runtime knows the container by its former address')
  run.now += 3_600_000
  run.due().bind()
  assert.equal(run.done[0]?.kind === 'bound' && run.done[0].how, 'restored')
})

test('a confirmation gives a lease more time, and a refusal takes it at once', () => {
  const run = new Run().bind().due()
  run.hears({ messageType: MESSAGE.ack, leaseTime: 100 }, { yiaddr: '10.0.0.10' })
  assert.equal(run.kind, 'renewing', 'another address is no renewal')
  run.hears({ messageType: MESSAGE.ack, leaseTime: 100 })
  assert.ok(run.state.kind === 'bound')
  assert.deepEqual([run.state.lease.renewAt, run.done[0]?.kind === 'bound' && run.done[0].how], [run.now + 50_000, 'renewed'])
  run.due().hears({ messageType: MESSAGE.nak })
  assert.deepEqual([run.kind, run.done[0]?.kind], ['selecting', 'withdraw'])
})

test('a lease without an end is never renewed, and one of no time at all not without a pause', () => {
  const run = new Run().bind(0xffffffff)
  assert.equal(dueAt(run.state), Number.MAX_SAFE_INTEGER)
  const short = new Run().bind(0)
  assert.ok(dueAt(short.state) >= short.now + 1000)
})

test("releaseMessage() names lease and client, and is for the lease's server", () => {
  const { state } = new Run().bind()
  assert.ok(state.kind === 'bound')
  const { ciaddr, options } = releaseMessage(state.lease, settings, { now: 0, random })
  assert.deepEqual([ciaddr, options], ['10.0.0.9', { messageType: MESSAGE.release, serverID: '10.0.0.1', clientID: settings.clientID }])
})

test('whatever happens, a held address is within its time, and nothing is due without a pause', () => {
  const answer = fc.record({
    type: fc.constantFrom(2, 5, 6),
    leaseTime: fc.option(fc.nat(200), { nil: undefined }),
    last: fc.integer({ min: 9, max: 10 }),
    wait: fc.nat(1500),
  })
  const events = fc.array(fc.oneof(fc.constant('due' as const), answer), { maxLength: 60 })
  fc.assert(
    fc.property(events, (list) => {
      const run = new Run()
      for (const event of list) {
        const before = run.now
        if (event === 'due') run.at(Math.min(dueAt(run.state), before + 1_000_000))
        else {
          run.now += Math.min(event.wait, Math.max(0, dueAt(run.state) - run.now - 1))
          run.hears(
            { messageType: event.type, ...(event.leaseTime !== undefined && { leaseTime: event.leaseTime }) },
            { yiaddr: `10.0.0.${event.last}` },
          )
        }
        const lease = 'lease' in run.state ? run.state.lease : undefined
        if (lease !== undefined) assert.ok(run.now < lease.expireAt, 'an address is kept beyond its time')
        assert.ok(dueAt(run.state) > run.now, `${run.state.kind} is due at once`)
        assert.ok(run.done.length <= 2)
      }
    }),
  )
})
