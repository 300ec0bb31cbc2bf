/** One execution of a plugin as a runtime does it: another program as a process, one of our own inside this process. */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { findForeignPlugin, runForeignPlugin } from '../chained/foreign-plugin.ts'
import { type JsonObject, quote } from '../cni/json.ts'
import type { Environment } from '../cni/request.ts'
import { isErrno, TsnetError } from '../error.ts'
import type { PlanContext } from '../plan/attach.ts'
import { findAnyPlugin } from '../plugins/reference.ts'
import { runPlugin } from '../plugins/run.ts'
import { PLUGIN_TYPES } from '../plugins/types.ts'

/** Where plugins are, and what they get of this process. */
export interface Surroundings {
  /** Every program inherits it, but for what the protocol sets. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** CNI_PATH: the first folder that has a plugin counts. */
  readonly folders: readonly string[]
  /** Folder of the program's own entries. */
  readonly ownFolder: string
  openContext(): PlanContext
  /** Writes to standard error. */
  complain(text: string): void
}

export interface Execution {
  /** The plugin's type: the name of its file. */
  readonly type: string
  /** Without `path`, which is what the surroundings say. */
  readonly environment: Omit<Environment, 'path'>
  readonly input: JsonObject
}

/**
 * @returns The document that the plugin printed; undefined for none.
 * @throws TsnetError of a plugin of our own; TSNET_DELEGATE when another failed, with its text and code; TSNET_NO_PLUGIN
 */
export function executePlugin({ type, environment, input }: Execution, around: Surroundings): unknown {
  const path = around.folders.join(':')
  const call = { type, environment: { ...environment, path }, input: JSON.stringify(input) }
  if (isOwn(requirePlugin(type, around), around.ownFolder)) return runPlugin({ ...call, entry: type, find: findAnyPlugin }, around.openContext())
  return runForeignPlugin({ ...call, inherited: around.env, warn: (text) => around.complain(`${text}\n`) })
}

/**
 * @returns The path of the plugin's program.
 * @throws TsnetError TSNET_NO_PLUGIN when no folder has it
 */
export function requirePlugin(type: string, { folders }: Pick<Surroundings, 'folders'>): string {
  try {
    return findForeignPlugin(type, folders.join(':'))
  } catch (cause) {
    if (!(cause instanceof TsnetError) || !PLUGIN_TYPES.includes(type)) throw cause
    throw new TsnetError('TSNET_NO_PLUGIN', `Cannot find the plugin ${quote(type)} in CNI_PATH ${quote(folders.join(':'))}`, {
      cniCode: cause.cniCode,
      hint: `"tsnet install --as ${type}" installs it`,
    })
  }
}

function isOwn(path: string, ownFolder: string): boolean {
  const identity = fileIdentity(path)
  return readdirSync(ownFolder).some((name) => fileIdentity(join(ownFolder, name)) === identity)
}

/** @returns What is the same for all names of a file; undefined where there is none. */
function fileIdentity(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path)
    return `${dev}:${ino}`
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ELOOP')) return undefined
    throw error
  }
}
