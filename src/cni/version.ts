/** The versions of the CNI specification: which are spoken, and what each allows. */
import { CNI_CODE, TsnetError } from '../error.ts'
import { quote } from './json.ts'

/** Oldest first; their order is the order of the versions. */
export const SUPPORTED_VERSIONS = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const

export type CniVersion = (typeof SUPPORTED_VERSIONS)[number]

export type Command = 'ADD' | 'DEL' | 'CHECK' | 'GC' | 'STATUS' | 'VERSION'

export const NEWEST_VERSION: CniVersion = '1.1.0'

/** The first version that knows a command; the others are as old as the specification. */
const COMMAND_SINCE: Partial<Record<Command, CniVersion>> = { CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' }

/**
 * @param text The configuration's cniVersion; absent and empty mean 0.1.0.
 * @param spoken Those that the plugin supports; default all.
 * @returns The version. Only equal text counts: "1.0" is not "1.0.0".
 * @throws TsnetError TSNET_VERSION, CNI code 1, for a version that is not supported
 * @see CNI spec 1.1.0, "Section 1: Network configuration format"; containernetworking/cni pkg/version/reconcile.go
 */
export function parseVersion(text: string | undefined, spoken: readonly CniVersion[] = SUPPORTED_VERSIONS): CniVersion {
  const wanted = text || '0.1.0'
  const version = spoken.find((supported) => supported === wanted)
  if (version !== undefined) return version
  throw new TsnetError('TSNET_VERSION', 'incompatible CNI versions', {
    cniCode: CNI_CODE.incompatibleVersion,
    details: `config is ${quote(wanted)}, plugin supports [${spoken.map(quote).join(' ')}]`,
  })
}

/** @returns Whether `version` is `minimum` or newer. */
export function isAtLeast(version: CniVersion, minimum: CniVersion): boolean {
  return SUPPORTED_VERSIONS.indexOf(version) >= SUPPORTED_VERSIONS.indexOf(minimum)
}

/**
 * Refuses a command that is younger than the configuration's version.
 * @throws TsnetError TSNET_VERSION, CNI code 1: CHECK before 0.4.0, GC and STATUS before 1.1.0
 * @see containernetworking/cni pkg/skel/skel.go, pluginMain
 */
export function requireCommandAllowed(command: Command, version: CniVersion): void {
  if (isAtLeast(version, COMMAND_SINCE[command] ?? '0.1.0')) return
  throw new TsnetError('TSNET_VERSION', `config version does not allow ${command}`, {
    cniCode: CNI_CODE.incompatibleVersion,
    details: `config is "${version}", ${command} needs "${COMMAND_SINCE[command]}" or newer`,
  })
}

/** @returns What the command VERSION prints, in one line. @see CNI spec 1.1.0, "VERSION: probe plugin version support" */
export function versionDocument(): { readonly cniVersion: CniVersion; readonly supportedVersions: readonly CniVersion[] } {
  return { cniVersion: NEWEST_VERSION, supportedVersions: SUPPORTED_VERSIONS }
}
