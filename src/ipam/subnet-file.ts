/**
 * The text of a subnet file: a head of whole pages, then one line of 128 bytes a lease. No line crosses a page, so that one write
 * of a line is done or not done, even for a process that is killed. ASCII only. @see docs/subnet-file.md
 */
import { basename, dirname } from 'node:path'
import { CNI_CODE, TsnetError } from '../error.ts'
import { formatAddress, formatPrefix, type IpAddress, parseAddress } from '../wire/ip-address.ts'
import type { LeaseOwner } from './lease.ts'
import { type AddressSpan, formatSpan, makeRange, type Range, type RangeSet } from './range.ts'
import { checkOverlaps, parseSubnet } from './subnet.ts'

/** Bytes of a lease line with its newline. */
export const LINE_LENGTH = 128

/** The head is a multiple of this many bytes. */
export const PAGE_LENGTH = 4096

export interface SubnetHead {
  readonly network: string
  readonly rangeSets: readonly RangeSet[]
}

/** A lease line: held by an owner, or free since the `sequence`th release of the network. */
export type LeaseLine =
  | { readonly kind: 'leased'; readonly address: string; readonly owner: LeaseOwner }
  | { readonly kind: 'free'; readonly address: string; readonly sequence: number }

const TITLE = /^# tsnet subnet file, format (\d+), head (\d+) bytes/

/**
 * @returns The head, padded to whole pages.
 * @throws TsnetError TSNET_SUBNET_FILE when the network's name would break the line
 */
export function formatHead(head: SubnetHead): string {
  if (!isNetworkName(head.network))
    throw new TsnetError('TSNET_SUBNET_FILE', `Network name ${JSON.stringify(head.network)} cannot stand in a subnet file`, {
      cniCode: CNI_CODE.invalidConfig,
    })
  const body = [`network ${head.network}`, ...head.rangeSets.map((set, index) => `set ${index}\n${formatSet(set)}`), ''].join('\n')
  for (let length = PAGE_LENGTH; ; length += PAGE_LENGTH) {
    const text = `# tsnet subnet file, format 1, head ${length} bytes, then one line of ${LINE_LENGTH} bytes a lease; see docs/subnet-file.md\n${body}`
    if (text.length + 2 <= length) return `${text}#${' '.repeat(length - text.length - 2)}\n`
  }
}

function isNetworkName(name: string): boolean {
  return /^[!-~]{1,255}$/.test(name)
}

/** @returns The lines of a set in the head; two sets that are the same have the same text. */
export function formatSet(set: RangeSet): string {
  return set.flatMap(formatRange).join('\n')
}

/** @returns The length of the head that the first line names, or undefined when it is no title of this format. */
export function headLength(text: string): number | undefined {
  const match = TITLE.exec(text)
  const length = Number(match?.[2])
  return match?.[1] === '1' && length > 0 && length % PAGE_LENGTH === 0 ? length : undefined
}

/** @returns A lease line of exactly 128 bytes. */
export function formatLine(line: LeaseLine): string {
  const words = `${line.address} ${line.kind} ${line.kind === 'leased' ? line.owner : line.sequence}`
  return `${words.padEnd(LINE_LENGTH - 1)}\n`
}

/** @returns The line, or undefined when it is none. The address is not looked at. */
export function parseLine(text: string): LeaseLine | undefined {
  const [address, kind, value, more] = text.trimEnd().split(' ')
  if (address === undefined || value === undefined || more !== undefined) return undefined
  if (kind === 'leased' && /^[!-~]+:[!-~]+$|~[0-9a-f]{16}$/.test(value)) return { kind, address, owner: value as LeaseOwner }
  if (kind === 'free' && /^\d{1,15}$/.test(value)) return { kind, address, sequence: Number(value) }
  return undefined
}

export interface SubnetText extends SubnetHead {
  readonly lines: readonly LeaseLine[]
  /** Whether every line stands where it must: false after an edit that left other line lengths, comments or blank lines. */
  readonly aligned: boolean
  /** Whether the last line has no newline: it may have been cut short in the middle of its holder's name. */
  readonly cut: boolean
}

/**
 * Reads a file as a person may have left it: lines of any length, with comments and blank lines. A last line without newline that
 * is no lease was cut short by a full disk and never reported, and is left out.
 * @throws TsnetError TSNET_SUBNET_FILE that names file and line
 */
export function parseSubnetText(text: string, path: string): SubnetText {
  const rows = text.split('\n')
  const cut = rows.pop() ?? ''
  const end = rows.findIndex(isLeaseRow)
  const headRows = end < 0 ? rows : rows.slice(0, end)
  const head = parseHead(headRows, path)
  const lines: LeaseLine[] = []
  const seen = new Map<string, number>()
  let aligned = cut === '' && headRows.join('\n').length + 1 === headLength(text)
  const take = (row: string, number: number): void => {
    if (row.trimEnd() === '' || row.startsWith('#')) {
      aligned = false
      return
    }
    if (row.length !== LINE_LENGTH - 1) aligned = false
    const line = parseRow(row)
    if (line === undefined)
      throw bad(path, number, `${JSON.stringify(row.trimEnd())} is not "<address> leased <container>:<interface>" or "<address> free <number>"`)
    const before = seen.get(line.address)
    if (before !== undefined) throw bad(path, number, `${line.address} stands in line ${before} already`)
    seen.set(line.address, number)
    if (!row.startsWith(`${line.address} `)) aligned = false
    lines.push(line)
  }
  if (end >= 0) for (let i = end; i < rows.length; i++) take(rows[i] as string, i + 1)
  const last = parseRow(cut) !== undefined
  if (last) take(cut, rows.length + 1)
  return { ...head, lines, aligned, cut: last }
}

/** @returns A lease line as a person may have written it, with its address in the one way to write it, or undefined when it is none. */
export function parseRow(row: string): LeaseLine | undefined {
  return canonical(parseLine(row))
}

/** @returns Whether a line looks like one that stands behind the head. */
export function isLeaseRow(row: string): boolean {
  return /^[0-9a-fA-F.:]+ (leased|free) /.test(row)
}

/** @param rows The lines of the head. @throws TsnetError TSNET_SUBNET_FILE that names file and line */
export function parseHead(rows: readonly string[], path: string): SubnetHead {
  if (headLength(rows[0] ?? '') === undefined) throw bad(path, 1, 'it is not the title of a subnet file of format 1')
  let network: string | undefined
  const sets: { range: Range; exclude: AddressSpan[] }[][] = []
  for (const [i, row] of rows.entries()) {
    const [word, ...rest] = row.trimEnd().split(/ +/)
    const set = sets.at(-1)
    const last = set?.at(-1)
    if (word === '' || word?.startsWith('#')) continue
    if (word === 'network' && rest.length === 1) network = rest[0]
    else if (word === 'set' && rest.length === 1) sets.push([])
    else if (word === 'range' && set !== undefined) set.push({ range: within(path, i + 1, () => parseRange(rest)), exclude: [] })
    else if (word === 'exclude' && last !== undefined) last.exclude.push(within(path, i + 1, () => parseSpan(rest[0])))
    else throw bad(path, i + 1, `${JSON.stringify(row.trimEnd())} does not belong into the head`)
  }
  if (network === undefined) throw bad(path, 1, 'the head names no network')
  const rangeSets = sets.map((set) => set.map(({ range, exclude }) => withExclude(range, exclude, path)))
  if (rangeSets.some((set) => set.length === 0)) throw bad(path, 1, 'the head has a set without a range')
  within(path, 1, () => checkOverlaps(rangeSets))
  if (!isNetworkName(network)) throw bad(path, 2, `${JSON.stringify(network)} is no name of a network`)
  return { network, rangeSets }
}

/** @returns The refusal of a subnet file. @param line Counted from 1. */
export function bad(path: string, line: number, reason: string, cause?: unknown): TsnetError {
  return new TsnetError('TSNET_SUBNET_FILE', `Cannot use line ${line} of subnet file "${path}": ${reason}`, {
    cniCode: CNI_CODE.io,
    hint: `Mend the line, or let tsnet make the file again from what runs: tsnet ipam check --repair --network ${basename(dirname(path))}`,
    cause,
  })
}

function formatRange(range: Range): readonly string[] {
  const line = `range ${formatSpan(range)} subnet ${formatPrefix(range.subnet)} gateway ${formatAddress(range.gateway)}`
  return [line, ...range.exclude.map((span) => `exclude ${formatSpan(span)}`)]
}

function parseRange(words: readonly string[]): Range {
  const [span, subnetWord, subnetText, gatewayWord, gatewayText] = words
  const gateway = parseAddress(gatewayText ?? '')
  if (subnetWord !== 'subnet' || gatewayWord !== 'gateway' || gateway === undefined || words.length !== 5) {
    throw new Error('a range is written "range <first>-<last> subnet <subnet> gateway <address>"')
  }
  return { ...parseSpan(span), subnet: parseSubnet(subnetText ?? ''), gateway, exclude: [] }
}

function parseSpan(text = ''): AddressSpan {
  const [first, last, more] = text.split('-').map(parseAddress)
  if (first === undefined || last === undefined || more !== undefined || first.family !== last.family || first.value > last.value) {
    throw new Error(`${JSON.stringify(text)} is not of the form first-last`)
  }
  return { first, last }
}

function withExclude(range: Range, exclude: readonly AddressSpan[], path: string): Range {
  const whole = makeRange(range.subnet, range, range.gateway, exclude)
  if (whole === undefined) throw bad(path, 1, `range ${formatSpan(range)} holds no address to hand out`)
  return whole
}

/** The same line with its address in the one way to write it, or undefined. */
function canonical(line: LeaseLine | undefined): LeaseLine | undefined {
  // The plain dotted form needs no second look; a scan of 60,000 lines is three times as fast for it.
  if (line === undefined || /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/.test(line.address)) return line
  const address: IpAddress | undefined = parseAddress(line.address)
  return address === undefined ? undefined : { ...line, address: formatAddress(address) }
}

function within<T>(path: string, line: number, parse: () => T): T {
  try {
    return parse()
  } catch (cause) {
    throw bad(path, line, cause instanceof Error ? cause.message : String(cause))
  }
}
