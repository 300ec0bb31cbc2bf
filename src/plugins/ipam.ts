/** Delegation to the IPAM plugin that a configuration names: in this process where the program has its type, else to a program of CNI_PATH. */
import { runForeignPlugin } from '../chained/foreign-plugin.ts'
import { optionalObject, optionalString } from '../cni/json.ts'
import { parseResult, type Result } from '../cni/result.ts'
import type { Command } from '../cni/version.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import type { UndoStack } from '../plan/undo.ts'
import { dhcp } from './dhcp.ts'
import { hostLocal } from './host-local.ts'
import type { Plugin, PluginRequest } from './plugin.ts'
import { refuseResident } from './resident.ts'
import { staticAddresses } from './static.ts'

const IN_PROCESS: ReadonlyMap<string, Plugin> = new Map([
  ['dhcp', dhcp],
  ['host-local', hostLocal],
  ['static', staticAddresses],
])

/** The verbs of the plugin that `ipam.type` names, for one request. */
export interface Ipam {
  /** Whether DEL is best asked while the interface is there. */
  readonly needsLink?: boolean
  /** @throws TsnetError; then nothing is taken */
  add(): Result
  del(): void
  check(): void
  gc(): void
  status(): void
}

/** @returns undefined when the configuration names no IPAM: the interface gets no address then. @throws TsnetError TSNET_CONFIG, CNI code 7 */
export function ipamOf(request: PluginRequest): Ipam | undefined {
  const type = optionalString(optionalObject(request.config.raw, 'ipam') ?? {}, 'type', 'ipam.') || undefined
  if (type === undefined) return undefined
  const plugin = IN_PROCESS.get(type)
  if (type === 'dhcp') refuseResident(request.context, 'a DHCP server')
  return { ...(plugin === undefined ? foreign(type, request) : bound(plugin, request)), needsLink: type === 'dhcp' }
}

/**
 * A plugin that refuses has given nothing: a DEL would give back what an attachment of the same name has.
 * @returns At least one address; what takes it back is on the stack
 * @throws TsnetError TSNET_RESULT, CNI code 7, when there is none
 */
export function leaseFrom(ipam: Ipam, undo: UndoStack): Result {
  const leased = ipam.add()
  undo.push('addresses', () => ipam.del())
  if (leased.ips.length > 0) return leased
  throw new TsnetError('TSNET_RESULT', 'Cannot attach: the IPAM plugin gave no address', { cniCode: CNI_CODE.invalidConfig })
}

function bound(plugin: Plugin, request: PluginRequest): Ipam {
  return {
    add: () => plugin.add(request),
    del: () => plugin.del(request),
    check: () => plugin.check(request),
    gc: () => plugin.gc(request),
    status: () => plugin.status(request),
  }
}

function foreign(type: string, { environment, config, input, context }: PluginRequest): Ipam {
  refuseResident(context, `the program "${type}"`)
  // An ADD that is taken back asks for DEL.
  const run = (command: Command) => runForeignPlugin({ type, environment: { ...environment, command }, input, warn: context.warn })
  return {
    add: () => parseResult(run('ADD'), config.cniVersion),
    del: () => void run('DEL'),
    check: () => void run('CHECK'),
    gc: () => void run('GC'),
    status: () => void run('STATUS'),
  }
}
