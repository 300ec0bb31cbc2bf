/** What a host consists of, told by other programs than tsnet: for comparing before and after. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { CniCall, CniDocument, Host } from './host.ts'
import { eventually, SYSCTL_FOLDER } from './machine.ts'

const SAVERS = ['iptables-nft-save', 'iptables-legacy-save', 'ip6tables-nft-save', 'ip6tables-legacy-save']
/** Per link: what tsnet sets, or must not. */
const LINK_SWITCHES = ['ipv4/conf/*/rp_filter', 'ipv4/conf/*/route_localnet', 'ipv6/conf/*/disable_ipv6', 'ipv6/conf/*/accept_ra']
const CARRIER = ['NO-CARRIER', 'LOWER_UP', 'linkdown']
const SWITCHES = ['net/ipv4/ip_forward', 'net/ipv6/conf/all/forwarding', 'net/ipv6/conf/uplink/accept_ra']

/** @returns The rules of both families, both variants of iptables and the native tables, without counters, dates and tables that hold nothing. */
export function rulesOf(host: Host): string {
  const tables = ['inet', 'bridge'].map((family) => `nft -s list table ${family} tsnet 2>/dev/null || true`)
  return `${iptablesRulesOf(host)}\n${host.sh(tables.join('\n'))}`
}

/** @returns The rules of both families and both variants of iptables, without counters, dates and tables that hold nothing. */
export function iptablesRulesOf(host: Host): string {
  const lines = host.sh(SAVERS.map((saver) => `test ! -x /usr/sbin/${saver} || { echo '# ${saver}'; ${saver}; }`).join('\n')).split('\n')
  const kept = lines
    .filter((line) => /^(-A |\*|# ip6?tables-\S+$)/.test(line) || /^:\S+ -/.test(line))
    .map((line) => line.replace(/ \[\d+:\d+\]$/, '').replace(/^# /, ''))
  return kept.filter((line, i) => !line.startsWith('*') || /^[-:]/.test(kept[i + 1] ?? '')).join('\n')
}

/** Runs pieces of a script in one process, which is much faster than one for each. @returns What each printed */
function sections(host: Host, scripts: readonly string[]): readonly string[] {
  return host.sh(scripts.join(`\nprintf '\\036'\n`)).split('\x1e')
}

/** @returns The relative paths of all files of the state folder. */
export function stateFiles(host: Host): readonly string[] {
  const root = host.machine.path('/run/tsnet')
  if (!existsSync(root)) return []
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((path) => statSync(join(root, path)).isFile())
    .sort()
}

export function readState(host: Host, path: string): string {
  return readFileSync(host.machine.path(`/run/tsnet/${path}`), 'utf8')
}

/** @returns `address owner` of every lease that is held, by the lines of the subnet files. */
export function leasesOf(host: Host): readonly string[] {
  return stateFiles(host)
    .filter((path) => /^networks\/[^/]+\/subnet$/.test(path))
    .flatMap((path) => readState(host, path).split('\n'))
    .flatMap((line) => {
      const [, address, owner] = /^(\S+) leased (\S+)\s*$/.exec(line) ?? []
      return address === undefined ? [] : [`${address} ${owner}`]
    })
    .sort()
}

/** @returns Records and port claims with their text, and the leases: what must not change when a call is refused. */
export function bookOf(host: Host): object {
  const files = stateFiles(host).filter((path) => /^attachments\/|^ports\/.*\/\d+$|\/network\.json$/.test(path))
  return { files: Object.fromEntries(files.map((path) => [path, readState(host, path)])), leases: leasesOf(host) }
}

export interface SnapshotOptions {
  /** The bridge's and the containers' links keep their numbers as long as nobody makes them anew. */
  readonly kernelOnly?: boolean
}

/** @returns Everything that ADD may change, as values that can be compared. */
export function snapshot(host: Host, { kernelOnly = false }: SnapshotOptions = {}): object {
  const [links, addresses, routes4, routes6, switches, linkSwitches] = sections(host, [
    'ip -j -d link',
    'ip -j addr',
    'ip -j route show table all',
    'ip -j -6 route show table all',
    `cd /proc/sys; cat ${SWITCHES.join(' ')}`,
    `cd /proc/sys/net; grep -H . ${LINK_SWITCHES.join(' ')}`,
  ])
  const parse = (text: string | undefined) => JSON.parse(text?.trim() || '[]', withoutPassing)
  return {
    links: parse(links),
    addresses: parse(addresses),
    routes4: parse(routes4),
    routes6: parse(routes6),
    rules: rulesOf(host),
    switches: switches?.split('\n'),
    linkSwitches: linkSwitches?.split('\n'),
    sysctlFiles: sysctlFiles(host),
    ...(kernelOnly ? {} : { book: bookOf(host) }),
  }
}

/** @returns The text of every file by which kernel parameters outlast a reload. */
export function sysctlFiles(host: Host): Readonly<Record<string, string>> {
  const folder = host.machine.path(SYSCTL_FOLDER)
  const names = existsSync(folder) ? readdirSync(folder) : []
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name), 'utf8')]))
}

/** Waits until the kernel has seen the carrier of the test network's bridge: it makes the routes of the IPv6 address then. */
export async function settled(host: Host): Promise<void> {
  const local = () => host.exec(['ip', '-6', 'route', 'show', 'table', 'local'])
  await eventually('the bridge carries', () => local().includes('local fd00:50::1 ') && local().includes('anycast fd00:50:: '))
}

/** Leaves out what changes by itself: timers, carriers, which the kernel sees a moment later, and link-local addresses, which come to life after their link. */
export function withoutPassing(key: string, value: unknown): unknown {
  if (/_timer$|^operstate$/.test(key)) return undefined
  if (key === 'flags' && Array.isArray(value)) return value.filter((flag) => !CARRIER.includes(flag))
  return Array.isArray(value)
    ? value.filter((entry) => !/"(local|dst)":"(fe80|ff00)/.test(JSON.stringify(entry)) || 'ifname' in Object(entry))
    : value
}

/** Asserts that two snapshots are equal, and says in few lines where they are not. */
export function assertSame(actual: object, expected: object, message: string): void {
  const lines = (value: object) => JSON.stringify(value, undefined, 1).replaceAll('\\n', '\n').split('\n')
  const [now, then] = [lines(actual), lines(expected)]
  const more = now.filter((line) => !then.includes(line)).map((line) => `+ ${line}`)
  const less = then.filter((line) => !now.includes(line)).map((line) => `- ${line}`)
  assert.ok(JSON.stringify(actual) === JSON.stringify(expected), [message, ...more.slice(0, 30), ...less.slice(0, 30)].join('\n'))
}

/** Asserts that a host has nothing of tsnet but empty folders, locks and addresses that are remembered as free. */
export function assertNothingLeft(host: Host, options: BookOptions = {}): void {
  const links = host.json<{ ifname: string }>('ip', '-j', 'link').map(({ ifname }) => ifname)
  assert.deepEqual(links.sort(), ['lo', 'uplink'], 'links are left')
  assert.doesNotMatch(rulesOf(host), /tsnet/i, 'rules are left')
  assert.deepEqual(sysctlFiles(host), {}, 'kernel parameters are kept')
  assertBookEmpty(host, options)
}

export interface BookOptions {
  /** Whether claims may be left whose attachment's record was lost: they count for nothing. */
  readonly deadClaims?: boolean
}

/** Asserts that no lease, record and port claim is held. */
export function assertBookEmpty(host: Host, { deadClaims = false }: BookOptions = {}): void {
  assert.deepEqual(leasesOf(host), [], 'leases are left')
  const files = stateFiles(host)
  assert.deepEqual(
    files.filter((path) => path.startsWith('attachments/')),
    [],
    'records are left',
  )
  if (deadClaims) return
  const claims = files.filter((path) => /^ports\/.*\/\d+$/.test(path)).filter((path) => readState(host, path).trim() !== '')
  assert.deepEqual(claims, [], 'port claims are left')
}

/** Asserts that a call is refused with this code, by one CNI error object, and that nothing is different afterwards. */
export function assertRefused(host: Host, command: string, call: CniCall, code: number): CniDocument {
  const before = snapshot(host)
  const { status, stdout, stderr, json } = host.cni(command, call)
  assert.equal(json.code, code, `${stdout}${stderr}`)
  assert.equal(status, 1)
  assert.ok(typeof json.msg === 'string' && json.msg.length > 0 && !json.msg.includes('\n'), `msg: ${json.msg}`)
  assert.doesNotMatch(`${stdout}${stderr}`, /\n\s*at |node:internal|\.cjs/, 'a stack trace')
  assert.doesNotMatch(stderr, /Cannot undo/)
  assertSame(snapshot(host), before, 'a refused call changed something')
  return json
}
