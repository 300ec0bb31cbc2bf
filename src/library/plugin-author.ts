/** What the author of a CNI plugin writes, and how a call is answered by it. */
import { type Answer, type CniRequest, dispatch, failure, success, type Verbs, versionAnswer } from '../cni/exchange.ts'
import { type JsonObject, quote } from '../cni/json.ts'
import { parseConfig, parseEnvironment, type RawConfig } from '../cni/request.ts'
import { formatResult, parseResult, type Result } from '../cni/result.ts'
import { type CniVersion, SUPPORTED_VERSIONS, versionDocument } from '../cni/version.ts'
import { CNI_CODE, TsnetError } from '../error.ts'

/** A plugin: each verb throws, or rejects, when it failed. */
export interface CniPlugin extends Pick<Verbs<CniRequest, Result | Promise<Result>, void | Promise<void>>, 'add' | 'del'> {
  /** Absent: nothing is ever wrong. */
  check?(request: CniRequest): void | Promise<void>
  /** Absent: there is nothing to collect. */
  gc?(request: CniRequest): void | Promise<void>
  /** Absent: always ready. */
  status?(request: CniRequest): void | Promise<void>
}

export interface PluginOptions {
  /** What the program says of itself when it is called by hand, in one line. */
  readonly about: string
  /** The versions of the CNI specification that it speaks; default all, 0.1.0 to 1.1.0. */
  readonly versions?: readonly CniVersion[]
}

/** What the process was called with. */
export interface PluginCall {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly readInput: () => string
  /** Whether a path leads to the network namespace that the plugin runs in. */
  readonly isOwnNetns: (path: string) => boolean
}

/** A failure with a code of its own: those from 100 on are the plugin's. @see CNI spec 1.1.0, "Error" */
export class CniError extends TsnetError {
  /**
   * @param cniCode What the runtime receives as `code`.
   * @param message A sentence without a period.
   * @param details Further text for the runtime's log.
   */
  constructor(cniCode: number, message: string, details?: string) {
    super('TSNET_PLUGIN', message, { cniCode, ...(details !== undefined && { details }) })
  }
}

/** @returns What plugins before this one have made; undefined for the first of a chain. @throws TsnetError when it cannot be read */
export function previousResult({ prevResult, cniVersion }: RawConfig): Result | undefined {
  return prevResult === undefined ? undefined : parseResult(prevResult, cniVersion)
}

/** @returns What the program prints and its exit status: parsed, checked, converted and refused just as by tsnet's own plugins. */
export async function answerPlugin(plugin: CniPlugin, { versions = SUPPORTED_VERSIONS }: PluginOptions, call: PluginCall): Promise<Answer> {
  try {
    const environment = parseEnvironment(call.env)
    if (environment.command === 'VERSION') return versionAnswer({ ...versionDocument(), supportedVersions: versions })
    const input = call.readInput()
    const config = parseConfig(input, environment.command, versions)
    const { netns, command, netnsOverride } = environment
    if (command === 'ADD' && !netnsOverride && call.isOwnNetns(netns)) throw ownNetns(netns)
    const result = await dispatch(complete(plugin), { environment, config, input })
    return success(command !== 'ADD' || result === undefined ? undefined : (formatResult(result, config.cniVersion) satisfies JsonObject))
  } catch (error) {
    return failure(error)
  }
}

function complete(plugin: CniPlugin): Verbs<CniRequest, Result | Promise<Result>, void | Promise<void>> {
  return {
    add: (request) => plugin.add(request),
    del: (request) => plugin.del(request),
    check: (request) => plugin.check?.(request),
    gc: (request) => plugin.gc?.(request),
    status: (request) => plugin.status?.(request),
  }
}

function ownNetns(path: string): TsnetError {
  return new TsnetError('TSNET_NETNS', `Cannot use the network namespace ${quote(path)}: it is the one that the plugin runs in`, {
    cniCode: CNI_CODE.invalidNetns,
  })
}
