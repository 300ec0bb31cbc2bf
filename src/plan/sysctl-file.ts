/**
 * A file for sysctl.d(5) that names the kernel parameters which the living networks rely upon, so that a reload of all such
 * files does not turn them back. It lives as long as they do, and only in the machine's own network namespace: others have
 * parameters of their own, and no such files.
 */
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CNI_CODE, describe, TsnetError } from '../error.ts'
import { isInMachinesNetns } from '../sys/netns.ts'
import { readSysctl } from '../sys/sysctl.ts'
import { type HostSysctl, isSet, loopbackSwitch, switchesOf } from './host-switches.ts'
import { type NetworkRecord, readNetwork } from './network.ts'
import { listLiveNetworks } from './record.ts'
import { lockHost, removeFile, type StateFolder } from './state-folder.ts'

const DEFAULT_FOLDER = '/run/sysctl.d'
/** After Debian's 99-sysctl.conf: the files of all folders are read in the order of their names, and the last one counts. */
const NAME = '99-tsnet.conf'
const HEAD = `# Written by tsnet: what its networks rely upon, as long as they have containers.
# To set a parameter otherwise all the same, name it in a file that sorts later.
`

export interface SysctlFileContext {
  readonly state: StateFolder
  /** Where the file goes, whichever network namespace this is; absent: /run/sysctl.d, in the machine's own namespace only. */
  readonly sysctlFolder?: string
  readonly warn: (problem: string) => void
}

export interface SysctlFileContent {
  /** What attachments need that are being made. */
  readonly wanted?: readonly HostSysctl[]
  /** A network whose last attachment is going. */
  readonly except?: string
}

/** @returns The file's path when it does not say what an attachment needs. */
export function findSysctlFileLack(wanted: readonly HostSysctl[], context: SysctlFileContext): string | undefined {
  const path = wanted.length > 0 ? pathOf(context) : undefined
  const text = path === undefined ? undefined : existsSync(path) ? readFileSync(path, 'utf8') : ''
  const said = (one: HostSysctl) => [one.value, ...(one.alternatives ?? [])].some((value) => text?.includes(`${line(one.key, value)}\n`))
  return text === undefined || wanted.every(said) ? undefined : path
}

/**
 * Writes the file anew, or removes it when nothing is relied upon. The caller holds the host's lock. Whoever is attached has a
 * network without it too, so a failure to write is but a warning.
 * @throws TsnetError TSNET_SYSCTL_FILE when it stays though nothing is relied upon: it would keep forwarding on for ever
 */
export function writeSysctlFile(content: SysctlFileContent, context: SysctlFileContext): void {
  const path = pathOf(context)
  if (path === undefined) return
  const lines = [...valuesOf(content, context.state)].map(([key, value]) => `${line(key, value)}\n`)
  if (lines.length === 0) return remove(path)
  try {
    replaceFile(path, `${HEAD}${lines.join('')}`)
  } catch (error) {
    context.warn(`Cannot keep kernel parameters through a reload: ${describe(error)}`)
  }
}

function remove(path: string): void {
  try {
    removeFile(path)
    removeFile(unfinished(path))
  } catch (cause) {
    throw new TsnetError('TSNET_SYSCTL_FILE', `Cannot remove "${path}", which keeps kernel parameters`, { cniCode: CNI_CODE.io, cause })
  }
}

/** Writes the file as the kernel and the networks are now. The caller does not hold the host's lock. */
export function rewriteSysctlFile(context: SysctlFileContext): void {
  if (pathOf(context) === undefined) return
  using _lock = lockHost(context.state)
  writeSysctlFile({}, context)
}

/** What one ADD does to the file. */
export class SysctlFileChange {
  readonly #context: SysctlFileContext
  #written = false

  constructor(context: SysctlFileContext) {
    this.#context = context
  }

  /** Before the links are made: the service that watches for new ones applies the files of sysctl.d to them. @param locked Whether the caller holds the host's lock */
  ensure(wanted: readonly HostSysctl[], locked: boolean): void {
    if (findSysctlFileLack(wanted, this.#context) === undefined) return
    this.#written = true
    using _lock = locked ? undefined : lockHost(this.#context.state)
    writeSysctlFile({ wanted }, this.#context)
  }

  /** When all else has been taken back. */
  takeBack(): void {
    if (this.#written) rewriteSysctlFile(this.#context)
  }
}

/** What depends on who is attached just now is as the kernel has it. */
function valuesOf({ wanted = [], except }: SysctlFileContent, state: StateFolder): ReadonlyMap<string, string> {
  const values = new Map<string, string>()
  const networks = listLiveNetworks(state).flatMap((network) => (network === except ? [] : (readNetwork(state, network) ?? [])))
  for (const one of networks.flatMap(standingSwitches)) values.set(one.key, one.value)
  for (const one of wanted) if (!isSet(one, values.get(one.key))) values.set(one.key, one.value)
  return values
}

function standingSwitches(network: NetworkRecord): readonly HostSysctl[] {
  const loopback = loopbackSwitch(network.bridge)
  const switches = switchesOf(network).map((one) => {
    const actual = one.alternatives && readSysctl(one.key)
    return actual !== undefined && isSet(one, actual) ? { ...one, value: actual } : one
  })
  return network.loopbackRouted !== true && isSet(loopback, readSysctl(loopback.key)) ? [...switches, loopback] : switches
}

function pathOf({ sysctlFolder }: SysctlFileContext): string | undefined {
  const folder = sysctlFolder ?? (isInMachinesNetns() ? DEFAULT_FOLDER : undefined)
  return folder === undefined ? undefined : join(folder, NAME)
}

/** Slashes, since names of links may hold dots; the minus, since a link may be gone. */
function line(key: string, value: string): string {
  return `-${key} = ${value}`
}

/** Readable for everybody, as all of sysctl.d, whatever the caller's umask. */
function replaceFile(path: string, text: string): void {
  mkdirSync(join(path, '..'), { recursive: true, mode: 0o755 })
  writeFileSync(unfinished(path), text)
  chmodSync(unfinished(path), 0o644)
  renameSync(unfinished(path), path)
}

/** Not read by anybody: its name does not end in .conf. */
function unfinished(path: string): string {
  return `${path}.new`
}
