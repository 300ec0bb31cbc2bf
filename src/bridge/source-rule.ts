/** Policy rules that send what leaves with a certain source address through a routing table of its own. */
import { unlessErrno } from '../error.ts'
import { addFibRule, listFibRules, type ObservedFibRule, removeFibRule } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { AF_INET, AF_INET6 } from '../wire/address.ts'
import { FR_ACT_TO_TBL } from '../wire/fib-rule.ts'
import { addressFromBytes, addressToBytes, formatAddress, type IpAddress } from '../wire/ip-address.ts'

/** Just before the main table's: a person's own rules, and those without a priority, which the kernel puts in front, come first. */
const PRIORITY = 32_000
/** The mark by which tsnet knows its own rules: no routing daemon has this number. @see iproute2, etc/rt_protos */
const PROTOCOL = 116

export interface SourceRule {
  readonly source: IpAddress
  readonly table: number
}

/** @returns false when there was the same rule */
export function ensureSourceRule(rt: NetlinkSocket, rule: SourceRule): boolean {
  return unlessErrno(['EEXIST'], () => addFibRule(rt, `add the policy rule for ${formatAddress(rule.source)}`, kernelRule(rule)))
}

/** @returns Whether there was such a rule of tsnet's. */
export function deleteSourceRule(rt: NetlinkSocket, rule: SourceRule): boolean {
  return removeFibRule(rt, `delete the policy rule for ${formatAddress(rule.source)}`, kernelRule(rule))
}

/** @returns The rules that tsnet has made in the namespace of the socket. */
export function sourceRulesOf(rt: NetlinkSocket): readonly SourceRule[] {
  return [AF_INET, AF_INET6]
    .flatMap((family) => listFibRules(rt, family))
    .flatMap(({ table, attributes }) => {
      const { source, protocol, priority } = attributes
      return protocol === PROTOCOL && priority === PRIORITY && source !== undefined ? [{ source: addressFromBytes(source), table }] : []
    })
}

function kernelRule({ source, table }: SourceRule): ObservedFibRule {
  const [family, sourceLength] = source.family === 4 ? ([AF_INET, 32] as const) : ([AF_INET6, 128] as const)
  return {
    family,
    sourceLength,
    table,
    action: FR_ACT_TO_TBL,
    attributes: { source: addressToBytes(source), priority: PRIORITY, protocol: PROTOCOL, table },
  }
}
