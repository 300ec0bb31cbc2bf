/** What a host must look like after any calls that several callers have made side by side. */
import assert from 'node:assert/strict'
import type { CniDocument, Container, Host } from './host.ts'
import { leasesOf, readState, stateFiles } from './state.ts'

export interface LoadNetwork {
  readonly conf: { readonly name: string; readonly [key: string]: unknown }
  readonly ifname: string
  /** How many attachments there is room for. */
  readonly capacity: number
}

export interface PortMapping {
  readonly hostPort: number
  readonly containerPort: number
  readonly protocol: 'tcp' | 'udp'
}

/** `coming` and `going` is what a call is about just now, or what one that was killed may have left. */
export type SlotState = 'free' | 'coming' | 'attached' | 'going' | 'abandoned'

/** One interface of one container in one network; one caller alone makes calls for it. */
export interface Slot {
  readonly network: LoadNetwork
  readonly container: Container
  state: SlotState
  result: CniDocument
  /** Those that it asked for. */
  ports: readonly PortMapping[]
}

/** From the begin of an ADD to the end of the call that took it back. */
interface Hold {
  readonly slot: Slot
  readonly ports: readonly PortMapping[]
  until: number
}

export class Model {
  readonly slots: Slot[] = []
  readonly #host: Host
  readonly #holds: Hold[] = []

  constructor(host: Host) {
    this.#host = host
  }

  /** An ADD begins, which may get what it asks for at any moment from now on. */
  coming(slot: Slot, ports: readonly PortMapping[]): void {
    slot.state = 'coming'
    slot.ports = ports
    this.#holds.push({ slot, ports, until: Number.POSITIVE_INFINITY })
  }

  /** Nothing is left of it from now on. */
  freed(slot: Slot): void {
    slot.state = 'free'
    slot.ports = []
    for (const hold of this.#holds) if (hold.slot === slot) hold.until = Math.min(hold.until, Date.now())
  }

  /** @returns How many attachments of a network may have had an address since then, at most. */
  occupied(network: LoadNetwork, since: number): number {
    return this.#holds.filter(({ slot, until }) => slot.network === network && until >= since).length
  }

  /** @returns Whether another container may have had one of the ports since then. */
  contends(slot: Slot, ports: readonly PortMapping[], since: number): boolean {
    const rivals = this.#holds.filter((hold) => hold.slot.container !== slot.container && hold.until >= since)
    return rivals.some((hold) => hold.ports.some((port) => ports.some((wanted) => isSame(port, wanted))))
  }

  /**
   * Asserts that nobody else has what an ADD has reported. A slot that is going has given back its own, or is about to. Of ports the
   * records count: one that the container has by another interface, in one family or both, stays with that one, and goes with it.
   */
  assertUnique(slot: Slot): void {
    const others = this.slots.filter((other) => other !== slot && (other.state === 'attached' || other.state === 'abandoned'))
    const owners = new Map(others.flatMap((other) => addressesOf(other).map((address) => [address, nameOf(other)])))
    for (const address of addressesOf(slot)) assert.equal(owners.get(address), undefined, `${nameOf(slot)} got ${address} too`)
    const own = this.#publishedBy(slot)
    for (const other of others.filter(({ container }) => container !== slot.container)) {
      const twin = this.#publishedBy(other).find((port) => own.includes(port))
      assert.equal(twin, undefined, `${nameOf(slot)} got ${twin} too, which ${nameOf(other)} has`)
    }
  }

  /** Asserts that books and kernel hold what the model says, no more and no less. No call may be running. */
  assertTrue(): void {
    const standing = this.slots.filter(({ state }) => state !== 'free')
    assert.deepEqual(standing.filter(({ state }) => state === 'coming' || state === 'going').map(nameOf), [], 'a call is running')
    const files = stateFiles(this.#host)
    const expected = standing.flatMap((slot) => addressesOf(slot).map((address) => `${address} ${slot.container.name}:${slot.network.ifname}`))
    assert.deepEqual(leasesOf(this.#host), expected.sort(), 'leases')
    const records = files.filter((path) => path.startsWith('attachments/'))
    assert.deepEqual(records, standing.map(recordOf).sort(), 'records')
    const claims = files.filter((path) => /^ports\/.*\/\d+$/.test(path)).flatMap((path) => readState(this.#host, path).trim().split('\n'))
    const published = standing.flatMap((slot) => portsIn(readState(this.#host, recordOf(slot))).map((port) => `${port} ${nameOf(slot)}`))
    assert.deepEqual(claims.filter((line) => line !== '').sort(), published.sort(), 'claims')
    const links = this.#host
      .json<{ ifalias?: string }>('ip', '-j', 'link')
      .flatMap(({ ifalias }) => (ifalias?.startsWith('tsnet ') ? [ifalias.slice(6)] : []))
    assert.deepEqual(links.sort(), standing.map(nameOf).sort(), 'links')
  }

  /** @returns Protocol, port and family of each. */
  #publishedBy(slot: Slot): readonly string[] {
    const { ports } = JSON.parse(readState(this.#host, recordOf(slot))) as { readonly ports: readonly (PortMapping & { readonly address: string })[] }
    return ports.map(({ protocol, hostPort, address }) => `${protocol} ${hostPort} of IPv${address.includes(':') ? 6 : 4}`)
  }
}

/** As tsnet writes it: `network/container:interface`. */
export function nameOf({ network, container }: Slot): string {
  return `${network.conf.name}/${container.name}:${network.ifname}`
}

function recordOf({ network, container }: Slot): string {
  return `attachments/${network.conf.name}/${container.name}:${network.ifname}.json`
}

function addressesOf({ result }: Slot): readonly string[] {
  return (result.ips ?? []).map(({ address }) => address.replace(/\/.*/, ''))
}

/** @returns The claims that belong to a record's ports. */
function portsIn(record: string): readonly string[] {
  const { ports } = JSON.parse(record) as { readonly ports: readonly { hostPort: number; count: number; address: string }[] }
  return ports.map(({ hostPort, count, address }) => `${hostPort}-${hostPort + count - 1} ${address.includes(':') ? '::' : '0.0.0.0'}`)
}

function isSame(a: PortMapping, b: PortMapping): boolean {
  return a.hostPort > 0 && a.hostPort === b.hostPort && a.protocol === b.protocol
}
