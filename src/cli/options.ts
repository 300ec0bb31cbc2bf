/** Options that several commands share, and what every value must be. */
import { accessSync, constants } from 'node:fs'
import type { Argv } from 'yargs'
import { quote } from '../cni/json.ts'
import { checkContainerID, checkIfname, checkNetworkName } from '../cni/request.ts'
import { isErrno, TsnetError } from '../error.ts'
import type { Capability } from '../sys/capability.ts'
import type { Shell } from './shell.ts'
import { usageError } from './usage-error.ts'

/** What yargs found; each value is read by `text` or `texts`. */
export type Arguments = Readonly<Record<string, unknown>>

const RULES = {
  network: { check: checkNetworkName, is: 'a network name is made of letters, digits, "_", "." and "-", a letter or digit first, 200 at most' },
  id: { check: checkContainerID, is: 'a container id is made of letters, digits, "_", "." and "-", a letter or digit first, 200 at most' },
  ifname: { check: checkIfname, is: 'an interface name has 1 to 15 characters without "/", ":", "%" and spaces' },
} as const

/** Adds `<netns>`. */
export function withNamespace<T>(yargs: Argv<T>): Argv<T> {
  return yargs.positional('netns', {
    type: 'string',
    demandOption: true,
    describe: 'Name under /run/netns, path, or process id (pid:3452 or 3452)',
  }) as unknown as Argv<T>
}

/** Adds `<container>`: what findAttachments() takes. */
export function withContainer<T>(yargs: Argv<T>): Argv<T> {
  return yargs.positional('container', {
    type: 'string',
    demandOption: true,
    describe: 'Its namespace (name, path, process id) or its container id',
  }) as unknown as Argv<T>
}

/** Adds `--network`. */
export function withNetwork<T>(yargs: Argv<T>, describe: string): Argv<T> {
  return yargs.option('network', { type: 'string', requiresArg: true, describe }) as unknown as Argv<T>
}

/** Adds `--json`. */
export function withJson<T>(yargs: Argv<T>, describe: string): Argv<T> {
  return yargs.option('json', { type: 'boolean', describe }) as unknown as Argv<T>
}

/** @returns The value of an option that may be given once. @throws TsnetError TSNET_USAGE */
export function text(args: Arguments, key: string): string | undefined {
  const value = args[key]
  if (Array.isArray(value)) throw usageError(`Cannot use --${key} ${value.length} times`, 'Give it once')
  if (value === undefined) return undefined
  if (value === '') throw usageError(`Cannot use --${key} without a value`, `Write --${key} and a value`)
  return String(value)
}

/** @returns The value of an option that becomes part of a name. @throws TsnetError TSNET_USAGE */
export function name(args: Arguments, key: keyof typeof RULES): string | undefined {
  const value = text(args, key)
  if (value === undefined) return undefined
  const { check, is } = RULES[key]
  try {
    check(value)
  } catch (error) {
    if (!(error instanceof TsnetError)) throw error
    throw usageError(`Cannot use --${key} ${quote(value)}: ${is}`, 'Give another one')
  }
  return value
}

/** @returns The values of an option that may be given many times. */
export function texts(args: Arguments, key: string): readonly string[] {
  const value = args[key]
  return Array.isArray(value) ? value.map(String) : value === undefined ? [] : [String(value)]
}

/** @returns Whether the option is given. */
export function flag(args: Arguments, key: string): boolean {
  return args[key] === true
}

/** @throws TsnetError TSNET_PERMISSION, before anything is attempted, when the process may not change networks */
export function requireCapabilities(shell: Shell, what: string): void {
  const wanted: readonly Capability[] = ['CAP_NET_ADMIN', 'CAP_SYS_ADMIN']
  const missing = shell.missingCapabilities(wanted)
  if (missing.length === 0) return
  const hint =
    shell.userID === 0 ? 'You are root without it: give it to the container or service that this runs in' : `Run it as root: sudo tsnet ${what} …`
  throw new TsnetError('TSNET_PERMISSION', `Cannot ${what}: the process lacks ${missing.join(' and ')}`, { cniCode: 4, hint })
}

/** @throws TsnetError TSNET_PERMISSION when the state folder exists and is closed to this user */
export function requireReadable(root: string, what: string): void {
  try {
    accessSync(root, constants.R_OK | constants.X_OK)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return
    throw new TsnetError('TSNET_PERMISSION', `Cannot ${what} what is attached: ${quote(root)} is closed to this user`, {
      cniCode: 4,
      hint: `Run it as root: sudo tsnet …`,
    })
  }
}
