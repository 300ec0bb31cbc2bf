/** A plugin that is another program: found in CNI_PATH, asked by environment and standard input. @see CNI spec 1.1.0, section 4 */
import { statSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { isObject, parseJson, parseJsonOrUndefined, quote } from '../cni/json.ts'
import type { Environment } from '../cni/request.ts'
import { CNI_CODE, isErrno, TsnetError } from '../error.ts'
import { type Outcome, startProgram } from '../sys/spawn.ts'
import { sleep } from '../sys/time.ts'

/** A plugin may wait for a server on the network. */
const TIMEOUT_MS = 240_000
/** A program that is just being replaced cannot be run for a moment. @see containernetworking/cni pkg/invoke/raw_exec.go */
const BUSY_TRIES = 6
const BUSY_WAIT_MS = 1000

export interface ForeignCall {
  /** The program's name. */
  readonly type: string
  readonly environment: Environment
  /** What it reads: a whole configuration. */
  readonly input: string
  /** Variables that it gets beside those of the protocol; absent: none. */
  readonly inherited?: Readonly<Record<string, string | undefined>>
  /** Hears what the program printed to standard error. */
  readonly warn: (text: string) => void
}

/**
 * @returns What the program printed as JSON; undefined when it printed nothing.
 * @throws TsnetError TSNET_DELEGATE with the program's own message and code; TSNET_NO_PLUGIN, CNI code 7, when CNI_PATH has none
 */
export function runForeignPlugin({ type, environment, input, inherited = {}, warn }: ForeignCall): unknown {
  const path = findForeignPlugin(type, environment.path)
  const outcome = runUnlessBusy(path, { ...withoutProtocol(inherited), ...variablesOf(environment) }, input)
  if (outcome.stderr.trim() !== '') warn(outcome.stderr.trim())
  if (outcome.status !== 0) throw failureOf(type, outcome)
  return outcome.stdout.trim() === '' ? undefined : parseJson(outcome.stdout, `the answer of the plugin "${type}"`)
}

/**
 * @param path CNI_PATH: folders, separated by colons.
 * @returns The first regular file of that name.
 * @throws TsnetError TSNET_NO_PLUGIN, CNI code 7
 * @see containernetworking/cni pkg/invoke/find.go, FindInPath
 */
export function findForeignPlugin(type: string, path: string): string {
  const folders = path.split(':').filter(isAbsolute)
  const found = /^[^/\0]+$/.test(type) && type !== '.' && type !== '..' ? folders.map((folder) => join(folder, type)).find(isFile) : undefined
  if (found !== undefined) return found
  throw new TsnetError('TSNET_NO_PLUGIN', `Cannot find the plugin ${quote(type)} in CNI_PATH ${quote(path)}`, {
    cniCode: CNI_CODE.invalidConfig,
    hint: 'Install it, or correct the type in the network definition',
  })
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false
}

/** What the caller's own CNI variables say is not about this program. */
function withoutProtocol(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const others = Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined && !entry[0].startsWith('CNI_'))
  return Object.fromEntries(others)
}

function variablesOf(environment: Environment): Record<string, string> {
  return {
    CNI_COMMAND: environment.command,
    CNI_CONTAINERID: environment.containerID,
    CNI_NETNS: environment.netns,
    CNI_IFNAME: environment.ifname,
    CNI_ARGS: environment.args,
    CNI_PATH: environment.path,
    ...(environment.netnsOverride && { CNI_NETNS_OVERRIDE: '1' }),
  }
}

function runUnlessBusy(path: string, env: Record<string, string>, stdin: string): Outcome {
  for (let tries = 1; ; tries++) {
    try {
      return startProgram({ path, args: [], stdin, env, timeoutMs: TIMEOUT_MS }).finish()
    } catch (error) {
      if (!isErrno(error, 'ETXTBSY') || tries === BUSY_TRIES) throw error
      sleep(BUSY_WAIT_MS)
    }
  }
}

/** The error object is on standard output; a program that crashed has none there. */
function failureOf(type: string, { status, stdout, stderr }: Outcome): TsnetError {
  const error = parseJsonOrUndefined(stdout)
  const code = isObject(error) && typeof error['code'] === 'number' && Number.isInteger(error['code']) ? error['code'] : CNI_CODE.internal
  const text = (key: string) => (isObject(error) && typeof error[key] === 'string' ? error[key] : '')
  const message = text('msg') || stderr.trim().split('\n')[0] || `It ended with status ${status}`
  return new TsnetError('TSNET_DELEGATE', `The plugin ${quote(type)} failed: ${message}`, {
    cniCode: code,
    ...(text('details') !== '' && { details: text('details') }),
  })
}
