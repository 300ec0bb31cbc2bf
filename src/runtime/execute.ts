/** One execution of a plugin as a runtime does it: another program as a process, one of our own inside this process. */
import { spawnSync } from 'node:child_process'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { field, isObject, type JsonObject, quote } from '../cni/json.ts'
import type { Command } from '../cni/version.ts'
import { isErrno, TsnetError } from '../error.ts'
import type { PlanContext } from '../plan/attach.ts'
import { answer } from '../plugins/answer.ts'
import { PLUGIN_TYPES } from '../plugins/types.ts'
import { sleep } from '../sys/time.ts'

/** Where plugins are, and what they get of this process. */
export interface Surroundings {
  /** Every plugin inherits it, but for what the protocol sets. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** CNI_PATH: the first folder that has a plugin counts. */
  readonly folders: readonly string[]
  /** Folder of the program's own entries; absent where there is none. */
  readonly ownFolder?: string
  openContext(): PlanContext
  /** Writes to standard error. */
  complain(text: string): void
}

export interface Execution {
  readonly command: Command
  /** The plugin's type: the name of its file. */
  readonly type: string
  /** CNI_CONTAINERID and so on; CNI_COMMAND and CNI_PATH need not be among them. */
  readonly parameters: Readonly<Record<string, string>>
  readonly input: JsonObject
}

interface Outcome {
  readonly status: number
  readonly output: string
  readonly problems: string
}

/** Somebody is just writing the program; libcni waits as long. @see containernetworking/cni pkg/invoke/raw_exec.go */
const BUSY_ATTEMPTS = 25
const BUSY_PAUSE_MS = 200
const LARGEST_OUTPUT = 16 * 1024 * 1024
const QUOTED_OUTPUT = 300

/**
 * @returns What the plugin printed, an object; {} for nothing.
 * @throws TsnetError TSNET_PLUGIN when it failed, with its own code and text; TSNET_NO_PLUGIN when it is in none of the folders
 */
export function executePlugin({ command, type, parameters, input }: Execution, around: Surroundings): JsonObject {
  const path = findPlugin(type, around)
  // Of the caller's own CNI variables none is for the plugin.
  const inherited = Object.entries(around.env).filter(([name, value]) => value !== undefined && !name.startsWith('CNI_'))
  const override = around.env['CNI_NETNS_OVERRIDE']
  const env = {
    ...Object.fromEntries(inherited),
    ...(override && { CNI_NETNS_OVERRIDE: override }),
    CNI_COMMAND: command,
    CNI_PATH: around.folders.join(':'),
    ...parameters,
  }
  const text = JSON.stringify(input)
  const run = isOwn(path, around.ownFolder) ? runInside : runProcess
  const outcome = run(path, { type, env, text }, around)
  around.complain(outcome.problems)
  return outcome.status === 0 ? readOutput(type, outcome) : fail(type, command, outcome)
}

/**
 * @returns The path of the plugin's program: a regular file, maybe by a link.
 * @throws TsnetError TSNET_NO_PLUGIN when no folder has it
 * @see containernetworking/cni pkg/invoke/find.go, FindInPath
 */
export function findPlugin(type: string, { folders }: Pick<Surroundings, 'folders'>): string {
  const path = folders.map((folder) => join(folder, type)).find((candidate) => fileIdentity(candidate) !== undefined)
  if (path !== undefined && type !== '' && !type.includes('/')) return path
  const own = (PLUGIN_TYPES as readonly string[]).includes(type)
  throw new TsnetError('TSNET_NO_PLUGIN', `Cannot find the plugin ${quote(type)}: it is not in ${folders.join(', ') || 'any folder'}`, {
    cniCode: 4,
    hint: own ? `"tsnet install --as ${type}" installs it; CNI_PATH says where to look` : 'Install it, or say with CNI_PATH where it lies',
  })
}

interface Process {
  readonly type: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly text: string
}

function runInside(_path: string, { type, env, text }: Process, around: Surroundings): Outcome {
  const { status, output } = answer({ entry: type, env, readInput: () => text }, around.openContext)
  return { status, output, problems: '' }
}

function runProcess(path: string, { env, text }: Process): Outcome {
  for (let attempt = 1; ; attempt++) {
    const { status, signal, stdout, stderr, error } = spawnSync(path, [], { env, input: text, encoding: 'utf8', maxBuffer: LARGEST_OUTPUT })
    if (isErrno(error, 'ETXTBSY') && attempt < BUSY_ATTEMPTS) {
      sleep(BUSY_PAUSE_MS)
      continue
    }
    // A plugin that fails early need not have read its input.
    if (error !== undefined && !(isErrno(error, 'EPIPE') && status !== null)) {
      throw new TsnetError('TSNET_PLUGIN', `Cannot run the plugin ${quote(path)}`, { hint: 'Is it executable, and complete?', cause: error })
    }
    return { status: status ?? 255, output: stdout, problems: signal === null ? stderr : `${stderr}${path}: ended by ${signal}\n` }
  }
}

function isOwn(path: string, ownFolder: string | undefined): boolean {
  if (ownFolder === undefined) return false
  const identity = fileIdentity(path)
  return readdirSync(ownFolder).some((name) => fileIdentity(join(ownFolder, name)) === identity)
}

/** @returns What is the same for all names of a file; undefined where there is no regular file. */
function fileIdentity(path: string): string | undefined {
  try {
    const stat = statSync(path)
    return stat.isFile() ? `${stat.dev}:${stat.ino}` : undefined
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES', 'ELOOP')) return undefined
    throw error
  }
}

function readOutput(type: string, { output }: Outcome): JsonObject {
  if (output.trim() === '') return {}
  const value = parse(output)
  if (value === null) return {}
  if (isObject(value)) return value
  throw new TsnetError('TSNET_PLUGIN', `Cannot read what the plugin ${quote(type)} printed: ${quote(output.trim())} is no JSON object`, {
    hint: 'A plugin prints its result on standard output, and all else on standard error',
  })
}

/** @see CNI spec 1.1.0, "Error" */
function fail(type: string, command: Command, { status, output, problems }: Outcome): never {
  const value = parse(output)
  const found = isObject(value) ? value : {}
  const [code, msg, details] = ['code', 'msg', 'details'].map((key) => field(found, key))
  const said = typeof msg === 'string' && msg !== '' ? msg : excerpt(output) || excerpt(problems) || `it ended with status ${status} and said nothing`
  throw new TsnetError('TSNET_PLUGIN', `Plugin ${quote(type)} failed in ${command}: ${said}`, {
    ...(typeof code === 'number' && Number.isInteger(code) && code > 0 && { cniCode: code }),
    ...(typeof details === 'string' && details !== '' && { details }),
  })
}

function excerpt(text: string): string {
  return text.trim().slice(0, QUOTED_OUTPUT)
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
