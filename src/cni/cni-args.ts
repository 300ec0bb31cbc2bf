/** CNI_ARGS: `KEY=value;KEY=value`, the oldest way of a runtime to pass wishes. */
import { CNI_CODE, TsnetError } from '../error.ts'
import { present, quote } from './json.ts'

export interface CniArgs {
  /** Addresses, separated by commas, each with or without a prefix length; requestedAddresses() reads them. */
  readonly ip?: string
  readonly gateway?: string
  readonly mac?: string
  /** What tsnet does not act upon, such as K8S_POD_NAME. */
  readonly others: ReadonlyMap<string, string>
}

/** How many unknown arguments a message names. */
const NAMED_ARGUMENTS = 8

/**
 * @param text CNI_ARGS; keys are case-sensitive, and a value holds neither `;` nor `=`.
 * @returns The arguments; of a key that occurs twice the last counts, and an empty value counts as absent.
 * @throws TsnetError TSNET_ENVIRONMENT, CNI code 4: a part that is no pair, IgnoreUnknown neither 1, true, 0 nor false, or unknown keys
 * without IgnoreUnknown=1
 * @see containernetworking/cni pkg/types/args.go, LoadArgs
 */
export function parseCniArgs(text: string): CniArgs {
  const known = new Map<string, string>()
  const others = new Map<string, string>()
  for (const pair of text === '' ? [] : text.split(';')) {
    const [key, value, rest] = pair.split('=', 3)
    if (key === undefined || value === undefined || rest !== undefined) throw argsError(`ARGS: invalid pair ${quote(pair)}`)
    if (/^(IP|GATEWAY|MAC|IgnoreUnknown)$/.test(key)) known.set(key, value)
    else others.set(key, value)
  }
  if (!ignoresUnknown(known.get('IgnoreUnknown')) && others.size > 0) {
    const named = [...others].slice(0, NAMED_ARGUMENTS).map(([key, value]) => quote(`${key}=${value}`))
    throw argsError(`ARGS: unknown args [${named.join(' ')}${others.size > NAMED_ARGUMENTS ? ' …' : ''}]`)
  }
  const value = (key: string) => known.get(key) || undefined
  return present({ ip: value('IP'), gateway: value('GATEWAY'), mac: value('MAC'), others })
}

function ignoresUnknown(value = 'false'): boolean {
  if (/^(1|true)$/i.test(value)) return true
  if (/^(0|false)$/i.test(value)) return false
  throw argsError(`ARGS: error parsing value of pair ${quote(`IgnoreUnknown=${value}`)}: boolean unmarshal error`)
}

function argsError(message: string): TsnetError {
  return new TsnetError('TSNET_ENVIRONMENT', message, { cniCode: CNI_CODE.invalidEnvironment })
}
