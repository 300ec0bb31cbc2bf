/** One request of a launcher: the plugin's own code, with the caller's environment as data and its namespace as a descriptor. */
import type { Answer } from '../cni/exchange.ts'
import { CNI_CODE, describe, TsnetError } from '../error.ts'
import type { PlanContext } from '../plan/attach.ts'
import { parseTimeLimit } from '../plan/time-limit.ts'
import { answer } from '../plugins/answer.ts'
import { findAnyPlugin } from '../plugins/reference.ts'
import { borrowNetns, type Netns } from '../sys/netns.ts'
import { now } from '../sys/time.ts'
import { Announcement } from './announcement.ts'
import type { Connection } from './connection.ts'
import { decodeRequest, differenceOf, encodeFrame, encodeResponse, type Identity, KIND, type Request } from './frame.ts'
import type { Log } from './log.ts'
import type { Tally } from './status.ts'

/**
 * Who waits longer for a network's lock stands in the way of all others: one shot can wait. Who waits less sends one after the
 * other into one shot while calls come in hundreds, each of which holds the lock against the next.
 */
const LOCK_TIMEOUT_MS = 1_000
/** They leave nothing changed, and say nothing that a runtime need know. */
const DECLINED = ['TSNET_LOCK_TIMEOUT', 'TSNET_ABANDONED', 'TSNET_RESIDENT']

export interface PerformOptions {
  /** The agent's own. */
  readonly identity: Identity
  /** What every request is served with; the rest depends on the request. */
  readonly context: PlanContext
  readonly log: Log
  readonly tally: Tally
}

/** Answers a request, or declines it when it should be run in one shot. @throws TsnetError TSNET_PROTOCOL for a request that is none */
export function perform(connection: Connection, payload: Buffer, { identity, context, log, tally }: PerformOptions): void {
  const request = decodeRequest(payload)
  const difference = differenceOf(request.caller, identity)
  if (difference !== undefined) {
    tally.declined++
    log.info('declined', { reason: `the caller has another ${difference}` })
    connection.send(encodeFrame(KIND.declined))
    return
  }
  const before = now()
  let problems = ''
  const warn = (problem: string) => {
    problems += `tsnet: ${problem}\n`
  }
  using announcement = new Announcement()
  const { status, output, error } = answerWith(request, connection, { ...context, warn, sendAnnouncement: announcement.prepare })
  connection.closeNetns()
  const facts = { command: request.env['CNI_COMMAND'] ?? '', container: request.env['CNI_CONTAINERID'], interface: request.env['CNI_IFNAME'] }
  const took = { ms: Math.round((now() - before) * 10) / 10 }
  if (error instanceof TsnetError && DECLINED.includes(error.code)) {
    tally.declined++
    log.info('declined', { ...facts, ...took, reason: describe(error) })
    connection.send(encodeFrame(KIND.declined))
    return
  }
  tally.count(facts.command, status === 0)
  if (!connection.send(encodeResponse({ status, output, problems }))) log.warn('lost an answer', facts)
  if (status === 0) announcement.send()
  if (status !== 0) log.info('failed', { ...facts, ...took, reason: describe(error) })
  else log.detail('done', { ...facts, ...took })
  if (problems !== '') log.warn('problems', { ...facts, problems: problems.trimEnd() })
}

function answerWith({ token, entry, env, input }: Request, connection: Connection, context: PlanContext): Answer {
  const patience = { lockTimeoutMs: LOCK_TIMEOUT_MS, isWanted: () => !connection.isHungUp() }
  const own = {
    ...context,
    resident: true,
    state: { ...context.state, patience },
    request: token,
    openNetns: (path: string) => passedNetns(connection.netns, path),
  }
  const openContext = () => ({ ...own, timeLimitMs: parseTimeLimit(env['TSNET_TIMEOUT']) })
  return answer({ entry, find: findAnyPlugin, env, readInput: () => input }, openContext)
}

/**
 * The path may mean something else here, or something else by now: only the descriptor counts. It stays the connection's: who has to make room
 * first, and tries again, opens it twice.
 */
function passedNetns(fd: number | undefined, path: string): Netns {
  if (fd !== undefined) return borrowNetns(fd, path)
  throw new TsnetError('TSNET_PROTOCOL', 'Cannot serve the request: no network namespace came with it', {
    cniCode: CNI_CODE.invalidNetns,
  })
}
