/** All leases of the daemon: who asks for one, who gives one back, and what happens to them meanwhile. */
import type { Log } from '../agent/log.ts'
import type { ValidAttachment } from '../cni/valid-attachments.ts'
import type { Moment } from '../dhcp/client-message.ts'
import { CNI_CODE, describe, TsnetError } from '../error.ts'
import { type Owner, ownerText } from '../plan/owner.ts'
import type { StateFolder } from '../plan/state-folder.ts'
import { netnsInode } from '../sys/netns.ts'
import { readLeases, removeLease, writeLease } from './lease-file.ts'
import { type ClientTiming, type KeeperEvent, LeaseKeeper } from './lease-keeper.ts'
import { errorResponse, type Request, type Response } from './protocol.ts'

/** Each costs a file, some memory, and a socket while it is extended. */
const MOST_LEASES = 16_384

export interface LeasesOptions {
  readonly state: StateFolder
  readonly timing: ClientTiming
  /** Stands before the paths of namespaces that plugins name; mostly empty. */
  readonly hostPrefix: string
  readonly log: Log
}

/** Takes the answer. @returns Whether it arrived */
export type Reply = (response: Response) => boolean

interface Entry {
  readonly keeper: LeaseKeeper
  /** Who waits for the first lease. */
  reply?: Reply
}

export class Leases implements Disposable {
  readonly #options: LeasesOptions
  readonly #entries = new Map<string, Entry>()

  constructor(options: LeasesOptions) {
    this.#options = options
    const { state, timing, log } = options
    for (const record of readLeases(state, (path) => log.warn('removed a file that holds no lease', { path }))) {
      const key = ownerText(record.owner)
      this.#entries.set(key, { keeper: new LeaseKeeper({ ...record, timing, onEvent: (event) => this.#onEvent(key, event) }, record) })
    }
    if (this.#entries.size > 0) log.info('goes on with the leases of its predecessor', { leases: this.#entries.size })
  }

  get fds(): readonly number[] {
    return [...this.#entries.values()].flatMap(({ keeper }) => keeper.fd ?? [])
  }

  /** When onTime() has something to do, in the moment's milliseconds. */
  get wakeAt(): number {
    return [...this.#entries.values()].reduce((first, { keeper }) => Math.min(first, keeper.wakeAt), Number.MAX_SAFE_INTEGER)
  }

  onReadable(fds: ReadonlySet<number>, moment: Moment): void {
    for (const { keeper } of [...this.#entries.values()]) if (keeper.fd !== undefined && fds.has(keeper.fd)) keeper.onReadable(moment)
  }

  onTime(moment: Moment): void {
    for (const { keeper } of [...this.#entries.values()]) if (keeper.wakeAt <= moment.now) keeper.onTime(moment)
  }

  /** Answers at once, but for a lease that has to be asked for. @returns What to call when nobody waits for it any more */
  serve(request: Request, reply: Reply, moment: Moment): (() => void) | undefined {
    switch (request.command) {
      case 'acquire':
        return this.#acquire(request, reply, moment)
      case 'release':
        this.#release(request.owner, moment)
        break
      case 'check': {
        const held = this.#entries.get(ownerText(request.owner))?.keeper.held
        if (held === undefined) throw unknownLease(request.owner)
        reply({ held })
        return undefined
      }
      case 'collect':
        this.#collect(request.network, request.valid, moment)
        break
      case 'status':
    }
    reply({})
    return undefined
  }

  [Symbol.dispose](): void {
    for (const { keeper, reply } of this.#entries.values()) {
      reply?.(errorResponse(new TsnetError('TSNET_DHCP', 'Cannot get a lease: the DHCP daemon ends', { cniCode: CNI_CODE.tryAgain })))
      keeper[Symbol.dispose]()
    }
  }

  #acquire({ owner, netns, wishes }: Extract<Request, { command: 'acquire' }>, reply: Reply, moment: Moment): (() => void) | undefined {
    const key = ownerText(owner)
    const path = this.#options.hostPrefix + netns.path
    if (netnsInode(path) !== netns.inode) {
      const hint = 'Do plugin and daemon see the same files? -hostprefix says where the daemon sees those of the host'
      throw new TsnetError('TSNET_NETNS', `Cannot use the network namespace ${JSON.stringify(path)}: it is not the one that the plugin sees`, {
        cniCode: CNI_CODE.invalidNetns,
        hint,
      })
    }
    const former = this.#entries.get(key)
    if (former?.reply !== undefined)
      throw new TsnetError('TSNET_DHCP', `Cannot get a lease for "${key}": another call is asking for it`, { cniCode: CNI_CODE.tryAgain })
    const held = former?.keeper.netnsInode === netns.inode ? former.keeper.held : undefined
    if (held !== undefined) {
      reply({ held })
      return undefined
    }
    if (this.#entries.size >= MOST_LEASES)
      throw new TsnetError('TSNET_DHCP', `Cannot keep more than ${MOST_LEASES} leases`, { cniCode: CNI_CODE.tryAgain })
    // A namespace that has gone took its lease along: the server gives the same address again to the same client.
    this.#remove(key)
    const onEvent = (event: KeeperEvent) => this.#onEvent(key, event)
    const keeper = new LeaseKeeper({ owner, netns: { path, inode: netns.inode }, wishes, timing: this.#options.timing, onEvent })
    this.#entries.set(key, { keeper, reply })
    keeper.onTime(moment)
    return () => {
      if (this.#entries.get(key)?.keeper !== keeper || !keeper.isAcquiring) return
      this.#options.log.info('nobody waits for a lease any more', { lease: key })
      this.#remove(key)
    }
  }

  /** Also one that is being asked for: a DEL comes after an ADD that its caller has given up. */
  #release(owner: Owner, moment: Moment): void {
    const key = ownerText(owner)
    const entry = this.#entries.get(key)
    if (entry === undefined) throw unknownLease(owner)
    const told = this.#tellServer(entry.keeper, moment)
    this.#options.log.info('released a lease', { lease: key, told })
    entry.reply?.(
      errorResponse(new TsnetError('TSNET_DHCP', `Cannot get a lease for "${key}": it has been released`, { cniCode: CNI_CODE.tryAgain })),
    )
    this.#remove(key)
  }

  /** What cannot be said for some reason: the lease runs out by itself. */
  #tellServer(keeper: LeaseKeeper, moment: Moment): boolean {
    try {
      return keeper.release(moment)
    } catch (error) {
      if (!(error instanceof TsnetError)) throw error
      this.#options.log.warn('could not tell the server', { lease: ownerText(keeper.owner), reason: error.message })
      return false
    }
  }

  #collect(network: string, valid: readonly ValidAttachment[], moment: Moment): void {
    const alive = new Set(valid.map(({ containerID, ifname }) => ownerText({ network, containerID, ifname })))
    for (const [key, { keeper, reply }] of [...this.#entries])
      if (keeper.owner.network === network && reply === undefined && !alive.has(key)) this.#release(keeper.owner, moment)
  }

  #onEvent(key: string, event: KeeperEvent): void {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    const { log } = this.#options
    const { keeper, reply } = entry
    const { record } = keeper
    const facts = { lease: key, ...(record && { address: record.lease.address }) }
    switch (event.kind) {
      case 'bound':
        log.info(event.how, facts)
        return this.#onBound(key, entry)
      case 'lost':
        log.warn('lost a lease, and took its address away', { ...facts, reason: event.reason })
        return void this.#write(keeper)
      case 'trouble':
        return log.warn('could not extend a lease', { ...facts, reason: event.reason })
      case 'gone':
      case 'failed': {
        const reason = event.kind === 'failed' ? event.reason : 'its interface is not there'
        log.info('gave up a lease', { ...facts, reason })
        reply?.(errorResponse(new TsnetError('TSNET_DHCP', `Cannot get a lease for "${key}": ${reason}`, { cniCode: CNI_CODE.tryAgain })))
        return this.#remove(key)
      }
    }
  }

  /** A lease that cannot be written down would be lost with the daemon, and one that nobody takes is never given back. */
  #onBound(key: string, entry: Entry): void {
    const { keeper, reply } = entry
    const failure = this.#write(keeper)
    delete entry.reply
    if (reply === undefined || keeper.held === undefined) return
    const isTaken = reply(failure === undefined ? { held: keeper.held } : errorResponse(failure))
    if (isTaken && failure === undefined) return
    this.#options.log.info('nobody waits for a lease any more', { lease: key })
    this.#tellServer(keeper, { now: 0, random: Math.random })
    this.#remove(key)
  }

  /** @returns Why it is not written */
  #write(keeper: LeaseKeeper): TsnetError | undefined {
    const { record } = keeper
    try {
      if (record !== undefined) writeLease(this.#options.state, record)
      return undefined
    } catch (cause) {
      const failure = new TsnetError('TSNET_DHCP', `Cannot write down the lease of "${ownerText(keeper.owner)}"`, { cniCode: CNI_CODE.io, cause })
      this.#options.log.warn('could not write down a lease', { reason: describe(failure) })
      return failure
    }
  }

  #remove(key: string): void {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    entry.keeper[Symbol.dispose]()
    this.#entries.delete(key)
    try {
      removeLease(this.#options.state, entry.keeper.owner)
    } catch (error) {
      // The successor finds no interface for it.
      this.#options.log.warn('could not remove the file of a lease', { lease: key, reason: describe(error) })
    }
  }
}

function unknownLease(owner: Owner): TsnetError {
  return new TsnetError('TSNET_DHCP_LEASE', `The DHCP daemon holds no lease for "${ownerText(owner)}"`, { cniCode: CNI_CODE.unknownContainer })
}
