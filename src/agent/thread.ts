/** What the agent's serving thread does, from what it was given to why it ended. */
import { statSync } from 'node:fs'
import { describe, TsnetError } from '../error.ts'
import { keepNetfilterSockets } from '../netlink/netfilter-socket.ts'
import type { PlanContext } from '../plan/attach.ts'
import { releaseProgramPages } from '../sys/program-pages.ts'
import { encodeFrame, type Identity, KIND, type NamespaceID } from './frame.ts'
import { deleteBridgeBy, deleteLinksBy, type Errand } from './link-deletion.ts'
import { type Log, type LogOptions, openLog } from './log.ts'
import { perform } from './perform.ts'
import { runServer, type Waiting } from './server.ts'
import { type AgentStatus, Tally } from './status.ts'
import { DeletionsTogether } from './together.ts'

/** What the thread is given by the one that starts it. */
export interface ThreadSettings {
  /** A socket that listens. */
  readonly listener: number
  /** Closed at its other end when the thread has to stop. */
  readonly stop: number
  /** Milliseconds without a request after which it ends; absent: never. */
  readonly idleMs?: number
  readonly log: LogOptions
}

export interface ThreadOptions {
  readonly settings: ThreadSettings
  readonly context: PlanContext
  readonly version: string
  /** What launchers of the same build say. */
  readonly build: string
  readonly pid: number
  readonly userID: number
  readonly residentBytes: () => number
  readonly tidy: () => void
  readonly writeLog: (line: string) => void
  /** Leaves a message for the kernel to be sent by somebody else. */
  readonly runErrand: (errand: Errand) => void
  /** Called when connections are going to be served. */
  readonly onReady: () => void
}

/** @returns Why it ended. */
export function runThread(options: ThreadOptions): string {
  const { settings, userID } = options
  keepNetfilterSockets()
  const context = { ...options.context, deleteLinks: deleteLinksBy(options.runErrand), deleteBridge: deleteBridgeBy(options.runErrand) }
  const log = openLog(settings.log, options.writeLog)
  const tally = new Tally()
  const started = new Date()
  const status = (): AgentStatus => ({
    pid: options.pid,
    version: options.version,
    build: options.build,
    started: started.toISOString(),
    uptimeSeconds: Math.round((Date.now() - started.getTime()) / 1000),
    ...tally.totals,
    residentBytes: options.residentBytes(),
    stateFolder: context.state.root,
  })
  const identity: Identity = {
    network: identityOf('/proc/self/ns/net'),
    mount: identityOf('/proc/self/ns/mnt'),
    build: options.build,
    stateFolder: context.state.root,
    sysctlFolder: context.sysctlFolder ?? '',
  }
  const together = new DeletionsTogether(identity, context)
  options.onReady()
  releaseProgramPages()
  return runServer({
    ...settings,
    userID,
    log,
    tidy: options.tidy,
    prepare: (waiting) => prepare(together, waiting, log),
    serve: (connection, { kind, payload }) => {
      if (kind === KIND.request) perform(connection, payload, { identity, context, log, tally })
      else if (kind === KIND.statusRequest) connection.send(encodeFrame(KIND.status, Buffer.from(JSON.stringify(status()))))
      else log.warn('closed a connection', { reason: `frame of kind ${kind}` })
    },
  })
}

/** What fails here is done, or fails with its reason, when its own turn comes. */
function prepare(together: DeletionsTogether, waiting: readonly Waiting[], log: Log): void {
  try {
    const links = together.deleteLinks(waiting)
    if (links > 0) log.detail('deleted links together', { links })
  } catch (error) {
    if (!(error instanceof TsnetError)) throw error
    log.detail('could not delete links together', { reason: describe(error) })
  }
}

function identityOf(path: string): NamespaceID {
  const { dev, ino } = statSync(path, { bigint: true })
  return { device: dev, inode: ino }
}
