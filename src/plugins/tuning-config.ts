/** The configuration of type `tuning`. @see containernetworking/plugins plugins/meta/tuning/README.md */
import { readFileSync } from 'node:fs'
import type { LinkSettings } from '../bridge/link-settings.ts'
import { parseMac } from '../cni/capabilities.ts'
import { parseCniArgs } from '../cni/cni-args.ts'
import { findDuplicateKey } from '../cni/duplicate-keys.ts'
import { invalidField, isObject, type JsonObject, optionalBoolean, optionalInteger, optionalObject, optionalString, present } from '../cni/json.ts'
import { netSysctlKey } from '../cni/net-sysctl.ts'
import { CNI_CODE, isErrno, TsnetError } from '../error.ts'
import type { PluginRequest } from './plugin.ts'

export interface TuningConfig {
  /** Paths below /proc/sys, in the order of the document. */
  readonly sysctls: readonly { readonly key: string; readonly value: string }[]
  readonly link: LinkSettings
  /** Absolute. */
  readonly dataDir: string
}

const DATA_DIR = '/run/cni/tuning'
/** One regular expression a line; where the file exists, only keys that one of them fits are set. */
const ALLOWLIST = '/etc/cni/tuning/allowlist.conf'
const LARGEST_MTU = 0x7fffffff
const LARGEST_QUEUE = 0x7fffffff

/**
 * @returns What the configuration, CNI_ARGS, runtimeConfig and args.cni say; each beats those before it.
 * @throws TsnetError TSNET_CONFIG, CNI code 7; TSNET_ENVIRONMENT, 4
 */
export function parseTuningConfig({ environment, config, input }: PluginRequest): TuningConfig {
  const { raw, runtimeConfig, args } = config
  const cniMac = parseCniArgs(environment.args).mac
  return {
    sysctls: parseSysctls({ environment, config, input }),
    link: {
      ...linkSettings(raw, ''),
      ...(cniMac !== undefined && { mac: parseMac(cniMac, 'CNI_ARGS MAC') }),
      ...linkSettings(present({ mac: optionalString(runtimeConfig, 'mac', 'runtimeConfig.') }), 'runtimeConfig.'),
      ...linkSettings(args, 'args.cni.'),
    },
    dataDir: tuningFolder(raw),
  }
}

/** @returns The kernel parameters of configuration and args.cni, in the order of the document. @throws TsnetError TSNET_CONFIG, CNI code 7 */
export function parseSysctls({ environment, config, input }: Pick<PluginRequest, 'environment' | 'config' | 'input'>): TuningConfig['sysctls'] {
  const sysctls = { ...sysctlsIn(config.raw, ''), ...sysctlsIn(config.args, 'args.cni.') }
  if (Object.keys(sysctls).length === 0) return []
  const twice = findDuplicateKey(input, 'sysctl')
  if (twice !== undefined) throw invalidField('sysctl', twice, 'a key that may occur twice')
  checkAllowed(Object.keys(sysctls))
  return Object.entries(sysctls).map(([name, value]) => ({ key: netSysctlKey(name, environment.ifname), value }))
}

/** @returns The folder of the backup files, which DEL and GC need even where the rest cannot be read. */
export function tuningFolder(raw: JsonObject): string {
  const folder = optionalString(raw, 'dataDir') || DATA_DIR
  if (!folder.startsWith('/') || folder.includes('\0')) throw invalidField('dataDir', folder, 'an absolute path')
  return folder
}

function sysctlsIn(object: JsonObject, path: string): Record<string, string> {
  const sysctls = optionalObject(object, 'sysctl', path) ?? {}
  return Object.fromEntries(
    Object.entries(sysctls).map(([key, value]) => {
      if (typeof value !== 'string') throw invalidField(`${path}sysctl.${key}`, isObject(value) ? value : String(value), 'a string')
      return [key, value]
    }),
  )
}

/** Empty, false and 0 mean that nothing is to be set, as in Go. @throws TsnetError TSNET_CONFIG, CNI code 7 */
export function linkSettings(object: JsonObject, path: string): LinkSettings {
  const mac = optionalString(object, 'mac', path)
  return present({
    mac: mac ? parseMac(mac, `${path}mac`) : undefined,
    mtu: optionalInteger(object, 'mtu', { min: 0, max: LARGEST_MTU, path }) || undefined,
    promisc: optionalBoolean(object, 'promisc', path) || undefined,
    allmulti: optionalBoolean(object, 'allmulti', path) || undefined,
    txQLen: optionalInteger(object, 'txQLen', { min: 0, max: LARGEST_QUEUE, path }),
  })
}

function checkAllowed(names: readonly string[]): void {
  const allowed = readAllowlist()
  const refused = allowed === undefined ? undefined : names.find((name) => !allowed.some((pattern) => pattern.test(name)))
  if (refused === undefined) return
  throw new TsnetError('TSNET_CONFIG', `Sysctl ${JSON.stringify(refused.slice(0, 128))} is not allowed: no line of ${ALLOWLIST} fits it`, {
    cniCode: CNI_CODE.invalidConfig,
    hint: `Only the administrator of this host can add it to ${ALLOWLIST}`,
  })
}

function readAllowlist(): readonly RegExp[] | undefined {
  try {
    const lines = readFileSync(ALLOWLIST, 'utf8').split('\n')
    return lines.filter((line) => line.trim() !== '').map((line) => new RegExp(line))
  } catch (cause) {
    if (isErrno(cause, 'ENOENT', 'ENOTDIR')) return undefined
    throw new TsnetError('TSNET_CONFIG', `Cannot read ${ALLOWLIST}`, { cniCode: CNI_CODE.invalidConfig, cause })
  }
}
