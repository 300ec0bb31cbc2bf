/** One of several that call tsnet side by side, at random, and know what each call must bring. */
import assert from 'node:assert/strict'
import { type CniOutcome, type Host, TSNET } from './host.ts'
import { type LoadNetwork, type Model, nameOf, type PortMapping, type Slot } from './load-model.ts'

const CODE = { unknown: 3, tryAgain: 11, interfaceTaken: 101, portTaken: 103 }
/** A call that takes longer is one that waits for ever. */
const DEADLOCK_MS = 150_000
const LIMIT_SECONDS = '120'
/** Long enough for an ADD to be nearly complete. */
const LONGEST_LIFE_MS = 250
const CONTENDED = [9000, 9001, 9002, 9003]

export interface CallerOptions {
  readonly number: number
  /** Its own: nobody else makes calls for them. */
  readonly slots: readonly Slot[]
  /** From 0 to 1. */
  readonly random: () => number
  /** Whether it uses an agent that runs. */
  readonly agent: boolean
}

export class Caller {
  readonly #host: Host
  readonly #model: Model
  readonly #options: CallerOptions
  readonly #env: Readonly<Record<string, string>>
  /** How many calls it has made, by name. */
  readonly calls = new Map<string, number>()

  constructor(host: Host, model: Model, options: CallerOptions) {
    this.#host = host
    this.#model = model
    this.#options = options
    this.#env = { TSNET_TIMEOUT: LIMIT_SECONDS, ...(!options.agent && { TSNET_RUN_DIR: '/none' }) }
  }

  /** One call after the other. @param end Milliseconds of Date.now() @throws AssertionError for what the model does not expect */
  async run(end: number): Promise<void> {
    while (Date.now() < end) await this.#step()
    for (const slot of this.#options.slots) if (slot.state === 'abandoned') slot.state = 'attached'
  }

  async #step(): Promise<void> {
    const slot = this.#pick(this.#options.slots)
    const dice = this.#options.random()
    if (dice < 0.05) await this.#repair()
    else if (dice < 0.12) await this.#collect(slot.network)
    else if (slot.state === 'free') await this.#whileFree(slot)
    else if (slot.state === 'attached') await this.#whileAttached(slot)
  }

  async #whileFree(slot: Slot): Promise<void> {
    const dice = this.#options.random()
    if (dice < 0.7) await this.#add(slot)
    else if (dice < 0.85) await this.#addKilled(slot)
    else if (dice < 0.92) this.#expect(await this.#call('DEL', slot), 0, slot)
    else this.#expect(await this.#call('CHECK', slot, { prevResult: {} }), CODE.unknown, slot)
  }

  async #whileAttached(slot: Slot): Promise<void> {
    const dice = this.#options.random()
    if (dice < 0.55) await this.delete(slot)
    else if (dice < 0.8) await this.check(slot)
    else if (dice < 0.86) this.#expect(await this.#call('ADD', slot), CODE.interfaceTaken, slot)
    else if (dice < 0.92) await this.#breakAndRepair(slot)
    else if (dice < 0.96) await this.#deleteKilled(slot)
    else slot.state = 'abandoned'
  }

  async #add(slot: Slot): Promise<void> {
    const ports = this.#choosePorts()
    const since = Date.now()
    this.#model.coming(slot, ports)
    const outcome = await this.#call('ADD', slot, { portMappings: ports })
    if (outcome.status === 0) {
      slot.state = 'attached'
      slot.result = outcome.json
      this.#model.assertUnique(slot)
      return
    }
    const { code, msg } = outcome.json
    const full = code === CODE.tryAgain && msg?.includes('are taken') === true && this.#model.occupied(slot.network, since) > slot.network.capacity
    const contended = code === CODE.portTaken && this.#model.contends(slot, ports, since)
    assert.ok(full || contended, `ADD ${nameOf(slot)}: ${outcome.stdout}${outcome.stderr}`)
    this.#model.freed(slot)
  }

  /** The runtime does not know how far it came, and deletes. */
  async #addKilled(slot: Slot): Promise<void> {
    const ports = this.#choosePorts()
    this.#model.coming(slot, ports)
    await this.#call('ADD', slot, { portMappings: ports, killAfterMs: this.#options.random() * LONGEST_LIFE_MS })
    await this.delete(slot)
  }

  async #deleteKilled(slot: Slot): Promise<void> {
    slot.state = 'going'
    await this.#call('DEL', slot, { killAfterMs: this.#options.random() * LONGEST_LIFE_MS })
    await this.delete(slot)
  }

  async delete(slot: Slot): Promise<void> {
    slot.state = 'going'
    this.#expect(await this.#call('DEL', slot), 0, slot)
    this.#model.freed(slot)
  }

  async check(slot: Slot): Promise<void> {
    this.#expect(await this.#call('CHECK', slot, { prevResult: slot.result }), 0, slot)
  }

  /** Keeps all but its own that it has abandoned. */
  async #collect(network: LoadNetwork): Promise<void> {
    const abandoned = this.#options.slots.filter((slot) => slot.network === network && slot.state === 'abandoned')
    const valid = this.#model.slots
      .filter((slot) => slot.network === network && !abandoned.includes(slot))
      .map(({ container, network: { ifname } }) => ({ containerID: container.name, ifname }))
    for (const slot of abandoned) slot.state = 'going'
    const conf = { ...network.conf, 'cni.dev/valid-attachments': valid }
    const outcome = await this.#limited('GC', this.#host.cniAsync('GC', { conf, env: this.#env }))
    assert.equal(outcome.status, 0, `GC ${network.conf.name}: ${outcome.stdout}${outcome.stderr}`)
    for (const slot of abandoned) this.#model.freed(slot)
  }

  async #repair(): Promise<void> {
    const { status, stdout, stderr } = await this.#limited('repair', this.#host.runAsync([TSNET, 'repair'], { env: this.#env }))
    assert.equal(status, 0, `repair: ${stdout}${stderr}`)
  }

  async #breakAndRepair(slot: Slot): Promise<void> {
    const [, veth] = slot.result.interfaces ?? []
    await this.#host.runAsync(['ip', 'link', 'delete', veth?.name ?? ''])
    await this.#repair()
    await this.check(slot)
  }

  #call(
    command: string,
    { network, container }: Slot,
    { portMappings, prevResult, killAfterMs }: { portMappings?: readonly PortMapping[]; prevResult?: object; killAfterMs?: number } = {},
  ): Promise<CniOutcome> {
    const call = {
      id: container.name,
      ifname: network.ifname,
      netns: container,
      conf: network.conf,
      env: this.#env,
      ...(portMappings && { runtimeConfig: { portMappings } }),
      ...(prevResult && { prevResult }),
    }
    return this.#limited(killAfterMs === undefined ? command : `${command} killed`, this.#host.cniAsync(command, call, killAfterMs))
  }

  async #limited<T>(name: string, call: Promise<T>): Promise<T> {
    this.calls.set(name, (this.calls.get(name) ?? 0) + 1)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`Caller ${this.#options.number}: ${name} has not ended for ${DEADLOCK_MS} ms`)), DEADLOCK_MS)
    })
    return Promise.race([call, late]).finally(() => clearTimeout(timer))
  }

  #expect({ json, stdout, stderr, status }: CniOutcome, code: number, slot: Slot): void {
    assert.equal(json.code ?? status, code, `${nameOf(slot)}: ${stdout}${stderr}`)
  }

  /** None, one that nobody else asks for, one that others may have, or one that tsnet chooses. */
  #choosePorts(): readonly PortMapping[] {
    const { random, number } = this.#options
    const protocol = random() < 0.5 ? 'tcp' : 'udp'
    const dice = random()
    if (dice < 0.3) return []
    if (dice < 0.6) return [{ hostPort: 20_000 + 100 * number + Math.floor(random() * 100), containerPort: 80, protocol }]
    return [{ hostPort: dice < 0.85 ? this.#pick(CONTENDED) : 0, containerPort: 80, protocol }]
  }

  #pick<T>(all: readonly T[]): T {
    return all[Math.floor(this.#options.random() * all.length)] as T
  }
}
