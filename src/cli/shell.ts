/** What a command sees of the process that it runs in; bin/cli.ts makes it, tests make their own. */
import type { AgentSettings } from '../agent/lifecycle.ts'
import type { PlanContext } from '../plan/attach.ts'
import type { Capability } from '../sys/capability.ts'
import type { Style } from './style.ts'

export interface Shell {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  /** The folder of the program's own entries, dist/bin. */
  readonly programs: string
  /** The absolute path of node. */
  readonly node: string
  /** How standard output looks: a terminal or not. */
  readonly style: Style
  /** 0 for root. */
  readonly userID: number
  /** @returns All of standard input. */
  readInput(): string
  /** Writes to standard output. */
  print(text: string): void
  /** Writes to standard error. */
  complain(text: string): void
  /** For a command that stays: SIGINT and SIGTERM abort the signal, and no longer end the process. */
  untilStopped(): AbortSignal
  /** @returns Those of `wanted` that the process lacks. */
  missingCapabilities(wanted: readonly Capability[]): readonly Capability[]
  /** @throws TsnetError when the environment names a bad state folder */
  openContext(): PlanContext
  /** Becomes the agent. */
  becomeAgent(settings: AgentSettings): never
}
