/** Watches over everything that is attached, and repairs it when something of it vanishes. */
import { describe } from '../error.ts'
import type { PlanContext } from '../plan/attach.ts'
import type { Repair } from '../plan/findings.ts'
import { type RepairAllResult, repairAll } from '../plan/repair-all.ts'
import { legacyFingerprint } from '../sys/legacy-tables.ts'
import { now } from '../sys/time.ts'
import type { Cause } from './cause.ts'
import { FirewalldSignals } from './firewalld.ts'
import { KernelEvents } from './kernel-events.ts'
import { type Outcome, Schedule } from './schedule.ts'

/** How often the rules of iptables-legacy are asked for; 0.1 ms each time. */
const LEGACY_POLL_MS = 500
/** Before events are listened to again after a failure. */
const RELISTEN_MS = 1_000

export interface WatchOptions {
  readonly context: PlanContext
  /** Absent: all. */
  readonly network?: string
  /** Milliseconds between looks without an event: for what there is no event for, such as most switches and the inside of containers. */
  readonly everyMs: number
  /** D-Bus address of the system's bus; absent: the usual. */
  readonly busAddress?: string
  readonly userID: number
  /** Ends the watch. */
  readonly signal: AbortSignal
  /** Hears of each repair that did something, and of failures, each until it is over or changes. */
  readonly onEvent: (event: WatchEvent) => void
}

export interface WatchEvent {
  readonly causes: readonly Cause[]
  /** Those that lacked something; of their errors the new ones. */
  readonly repairs: readonly Repair[]
  /** What kept whole networks from being looked at, or events from being heard; the new ones. */
  readonly errors: readonly unknown[]
  /** How long the repair took. */
  readonly milliseconds: number
}

/**
 * Watches the network namespace that the process is in, first looking at everything once. Each repair holds the locks that `tsnet
 * repair` holds, and blocks the thread meanwhile.
 * @returns When the signal is aborted. No failure ends it.
 */
export async function watch(options: WatchOptions): Promise<void> {
  const { everyMs, userID, busAddress } = options
  const known = new KnownErrors()
  using schedule = new Schedule(everyMs, (causes) => look(causes, options, known))
  const onCause = (cause: Cause) => schedule.note(cause)
  const listening = listen(onCause, options)
  using _firewalld = new FirewalldSignals({ address: busAddress, userID, onCause })
  const legacy = setInterval(legacyWatcher(onCause), LEGACY_POLL_MS)
  try {
    schedule.lookNow('it started')
    await listening
  } finally {
    clearInterval(legacy)
  }
}

/** A repair of ours makes events too. The look that follows them finds nothing to do, makes none, and so is the last. */
function look(causes: readonly Cause[], options: WatchOptions, known: KnownErrors): Outcome {
  const begin = now()
  const { repairs, errors } = attempt(() => repairAll({ ...options.context, dryRun: false }, options.network))
  const fresh = known.update([...errors, ...repairs.flatMap((repair) => repair.errors)])
  const notable = repairs
    .map((repair) => ({ ...pick(repair), errors: repair.errors.filter((error) => fresh.has(describe(error))) }))
    .filter(({ made, errors: problems }) => made.length > 0 || problems.length > 0)
  const problems = errors.filter((error) => fresh.has(describe(error)))
  if (notable.length > 0 || problems.length > 0) options.onEvent({ causes, repairs: notable, errors: problems, milliseconds: now() - begin })
  return { made: repairs.some(({ made }) => made.length > 0), failed: known.size > 0 }
}

/** The findings of a repair are read through getters, which a copy does not have. */
function pick({ network, owner, status, made, errors }: Repair): Repair {
  return { network, ...(owner && { owner }), status, made, errors }
}

function attempt(act: () => RepairAllResult): RepairAllResult {
  try {
    return act()
  } catch (error) {
    return { repairs: [], errors: [error] }
  }
}

/** Which failures have been told of: one that lasts is worth a line, not one every time. */
class KnownErrors {
  #texts: ReadonlySet<string> = new Set()

  get size(): number {
    return this.#texts.size
  }

  /** @param errors All that there are now. @returns The texts of the new ones. */
  update(errors: readonly unknown[]): ReadonlySet<string> {
    const texts = new Set(errors.map(describe))
    const fresh = new Set([...texts].filter((text) => !this.#texts.has(text)))
    this.#texts = texts
    return fresh
  }
}

/** Goes on listening after a failure, and has everything looked at then. */
async function listen(onCause: (cause: Cause) => void, { signal, onEvent }: WatchOptions): Promise<void> {
  for (let told = ''; !signal.aborted; ) {
    try {
      using events = new KernelEvents()
      const stop = () => events.stop()
      signal.addEventListener('abort', stop, { once: true })
      await events.run(onCause)
      signal.removeEventListener('abort', stop)
    } catch (error) {
      if (describe(error) !== told) onEvent({ causes: ['events were lost'], repairs: [], errors: [error], milliseconds: 0 })
      told = describe(error)
      await pause(RELISTEN_MS, signal)
      onCause('events were lost')
    }
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    const stop = () => {
      clearTimeout(timer)
      resolve()
    }
    signal.addEventListener('abort', stop, { once: true })
  })
}

/** @returns What has to be called now and then. */
function legacyWatcher(onCause: (cause: Cause) => void): () => void {
  let known = legacyFingerprint()
  return () => {
    const found = legacyFingerprint()
    if (found !== known) onCause('legacy rules changed')
    known = found
  }
}
