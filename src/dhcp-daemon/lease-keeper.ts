/** Keeps one lease: lets the client's function act on the real interface, and writes down what comes of it. */
import { type Action, type ClientState, dueAt, type Step, startClient, step } from '../dhcp/client.ts'
import { type ClientSettings, type Moment, releaseMessage, serverOf } from '../dhcp/client-message.ts'
import { type InterfaceName, type OpenInterface, openInterface, restoreAddress, type Withdrawn, withdrawAddress } from '../dhcp/interface.ts'
import type { DhcpLease } from '../dhcp/lease.ts'
import { describe } from '../error.ts'
import type { Owner } from '../plan/owner.ts'
import type { LeaseRecord } from './lease-file.ts'
import type { Held } from './protocol.ts'

/** How the daemon's client behaves, for all leases alike. */
export interface ClientTiming extends Pick<ClientSettings, 'broadcast' | 'resendMaxMs' | 'resendTimeoutMs'> {
  /** How long the answer to one message is listened for, milliseconds. */
  readonly timeoutMs: number
}

export interface KeeperOptions extends Pick<LeaseRecord, 'owner' | 'netns' | 'wishes'> {
  readonly timing: ClientTiming
  /** Hears of what has changed. */
  readonly onEvent: (event: KeeperEvent) => void
}

export type KeeperEvent =
  | { readonly kind: 'bound'; readonly how: 'acquired' | 'renewed' | 'rebound' | 'restored' }
  /** The address has been taken from the interface, and is asked for until a server gives it again. */
  | { readonly kind: 'lost'; readonly reason: string }
  /** There will be no lease. */
  | { readonly kind: 'failed'; readonly reason: string }
  /** Namespace or interface are not there any more. */
  | { readonly kind: 'gone' }
  /** Something went wrong; it will be tried again. */
  | { readonly kind: 'trouble'; readonly reason: string }

const RETRY_MS = 10_000

export class LeaseKeeper implements Disposable {
  readonly owner: Owner
  readonly #options: KeeperOptions
  #state: ClientState | undefined
  /** Of a record: a lease that was lost before, for which the client has yet to begin. */
  readonly #former: DhcpLease | undefined
  #link: OpenInterface | undefined
  #linkMtu = 0
  #listenUntil = 0
  #notBefore = 0
  #withdrawn: Withdrawn | undefined

  constructor(options: KeeperOptions, record?: LeaseRecord) {
    this.owner = options.owner
    this.#options = options
    if (record === undefined) return
    this.#linkMtu = record.linkMtu
    this.#withdrawn = record.withdrawn
    if (record.withdrawn === undefined) this.#state = { kind: 'bound', lease: record.lease }
    else this.#former = record.lease
  }

  /** The socket that an answer is awaited on. */
  get fd(): number | undefined {
    return this.#link?.socket.fd
  }

  /** What the container may use; undefined while there is none, or none any more. */
  get held(): Held | undefined {
    const lease = this.#withdrawn === undefined ? leaseOf(this.#state) : undefined
    return lease && { lease, linkMtu: this.#linkMtu }
  }

  /** Whether it asks for its first lease. */
  get isAcquiring(): boolean {
    return leaseOf(this.#state) === undefined && this.#lostLease === undefined
  }

  get netnsInode(): number {
    return this.#options.netns.inode
  }

  /** When onTime() has something to do. */
  get wakeAt(): number {
    const due = Math.max(this.#notBefore, this.#state === undefined ? 0 : dueAt(this.#state))
    return this.#link === undefined ? due : Math.min(due, Math.max(this.#listenUntil, this.#notBefore))
  }

  /** @returns What has to be written down; undefined when there is nothing that a successor could go on with. */
  get record(): LeaseRecord | undefined {
    const { owner, netns, wishes } = this.#options
    const lease = leaseOf(this.#state) ?? this.#lostLease
    return lease && { owner, netns, wishes, lease, linkMtu: this.#linkMtu, ...(this.#withdrawn && { withdrawn: this.#withdrawn }) }
  }

  /** Does what is due: the first message, the next, or none any more. */
  onTime(moment: Moment): void {
    if (this.#link !== undefined && moment.now >= this.#listenUntil) this.#close()
    if (moment.now < this.#notBefore || (this.#state !== undefined && moment.now < dueAt(this.#state))) return
    this.#guarded(moment, () => {
      if (!this.#open()) return this.#options.onEvent({ kind: 'gone' })
      this.#take(this.#next(moment), moment)
    })
  }

  /** Takes the answers that have come in. */
  onReadable(moment: Moment): void {
    this.#guarded(moment, () => {
      for (const answer of this.#link?.socket.receive() ?? []) {
        // What comes behind the answer that binds finds no socket any more.
        if (this.#state === undefined || this.#link === undefined) return
        this.#take(step(this.#state, { kind: 'answer', ...answer }, { settings: this.#settings(), moment }), moment)
      }
    })
  }

  /** Gives the lease back, if there is one and a way to say so. @returns Whether the server was told */
  release(moment: Moment): boolean {
    const lease = leaseOf(this.#state)
    if (lease === undefined || !this.#open()) return false
    const message = releaseMessage(lease, this.#settings(), moment)
    return this.#link?.socket.send(message, serverOf(lease)) ?? false
  }

  [Symbol.dispose](): void {
    this.#close()
  }

  get #lostLease(): DhcpLease | undefined {
    return this.#state !== undefined && 'former' in this.#state ? this.#state.former : this.#former
  }

  get #name(): InterfaceName {
    return { netns: this.#options.netns, ifname: this.owner.ifname }
  }

  #next(moment: Moment): Step {
    const settings = this.#settings()
    return this.#state === undefined ? startClient(settings, moment, this.#former) : step(this.#state, { kind: 'time' }, { settings, moment })
  }

  #take({ state, actions }: Step, moment: Moment): void {
    this.#state = state
    for (const action of actions) this.#act(action, moment)
    if (state.kind === 'bound' || state.kind === 'failed') this.#close()
    if (state.kind === 'failed') this.#options.onEvent(state)
  }

  #act(action: Action, { now }: Moment): void {
    const { onEvent, timing } = this.#options
    switch (action.kind) {
      case 'send':
        this.#listenUntil = now + timing.timeoutMs
        this.#link?.socket.send(action.message, action.server)
        return
      case 'withdraw':
        this.#withdrawn = withdrawAddress(this.#name, action.lease)
        return onEvent({ kind: 'lost', reason: action.reason })
      case 'bound':
        if (this.#withdrawn !== undefined) this.#restore(this.#withdrawn)
        return onEvent({ kind: 'bound', how: action.how })
    }
  }

  #restore(withdrawn: Withdrawn): void {
    restoreAddress(this.#name, withdrawn)
    this.#withdrawn = undefined
  }

  /** @returns Whether the interface is there. */
  #open(): boolean {
    // Who sets the interface of a running container down means it.
    this.#link ??= openInterface(this.#name, this.isAcquiring)
    if (this.#link === undefined) return false
    this.#linkMtu = this.#link.mtu
    return true
  }

  #close(): void {
    this.#link?.socket[Symbol.dispose]()
    this.#link = undefined
  }

  /** With the hardware address that the interface has now: another plugin of the chain may change it. */
  #settings(): ClientSettings {
    const { wishes, timing } = this.#options
    return { ...timing, ...wishes, mac: this.#link?.socket.mac ?? new Uint8Array(6) }
  }

  /** What goes wrong with one lease must not end the daemon: whoever waits learns it, and what is held is tried again. */
  #guarded({ now }: Moment, act: () => void): void {
    try {
      act()
    } catch (error) {
      this.#close()
      this.#notBefore = now + RETRY_MS
      this.#options.onEvent(this.isAcquiring ? { kind: 'failed', reason: describe(error) } : { kind: 'trouble', reason: describe(error) })
    }
  }
}

function leaseOf(state: ClientState | undefined): DhcpLease | undefined {
  return state !== undefined && 'lease' in state ? state.lease : undefined
}
