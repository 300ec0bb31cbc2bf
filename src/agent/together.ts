/**
 * DELs that wait together: the kernel keeps a thread for some 20 ms behind each link that is deleted, and once for many that are
 * deleted at a time. So their links go first, all at once; each DEL then finds its own gone, and removes the rest.
 */
import { parseConfig, parseEnvironment } from '../cni/request.ts'
import { TsnetError } from '../error.ts'
import type { PlanContext } from '../plan/attach.ts'
import { deleteVeths } from '../plan/detach.ts'
import type { Owner } from '../plan/owner.ts'
import type { Frame } from './connection.ts'
import { decodeRequest, differenceOf, type Identity, KIND } from './frame.ts'
import type { Waiting } from './server.ts'

/** Beyond it one wait is long enough to be worth nothing, and the first caller waits for the links of all. */
const MOST_LINKS = 64

/** Remembers which requests it has looked at, so that each is once. */
export class DeletionsTogether {
  readonly #identity: Identity
  readonly #context: Pick<PlanContext, 'deleteLinks'>
  readonly #seen = new WeakSet<Frame>()

  /** @param identity The agent's own. */
  constructor(identity: Identity, context: Pick<PlanContext, 'deleteLinks'>) {
    this.#identity = identity
    this.#context = context
  }

  /** @param waiting What is served next, and what waits behind it. @returns How many links were deleted together */
  deleteLinks(waiting: readonly Waiting[]): number {
    const fresh = waiting.filter(({ frame }) => !this.#seen.has(frame)).slice(0, MOST_LINKS)
    if (fresh.length < 2) return 0
    for (const { frame } of fresh) this.#seen.add(frame)
    // For whom nobody waits any more nothing is changed.
    const owners = fresh.flatMap(({ frame, connection }) => (connection.isHungUp() ? [] : (this.#ownerOf(frame) ?? [])))
    return owners.length < 2 ? 0 : deleteVeths(owners, this.#context)
  }

  /** Whose DEL it is, if it is one that this agent serves. What cannot be read is answered when its turn comes. */
  #ownerOf({ kind, payload }: Frame): Owner | undefined {
    if (kind !== KIND.request) return undefined
    try {
      const { caller, entry, env, input } = decodeRequest(payload)
      if (entry !== 'tsnet' || env['CNI_COMMAND'] !== 'DEL' || differenceOf(caller, this.#identity) !== undefined) return undefined
      const { containerID, ifname } = parseEnvironment(env)
      const { name, type } = parseConfig(input, 'DEL')
      return type === 'tsnet' ? { network: name, containerID, ifname } : undefined
    } catch (error) {
      if (error instanceof TsnetError) return undefined
      throw error
    }
  }
}
