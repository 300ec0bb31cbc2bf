/** The two ways to write the rules of published ports. */
import { findIptables, hasIptables } from '../nat/iptables/program.ts'
import { editTable, readTable } from '../nat/iptables/table-edit.ts'
import type { Family } from '../wire/ip-address.ts'
import { editNftTable, hasNft, listNftRules, requireNft } from './nft-script.ts'
import { type PortRules, type PortRulesBackend, refuseFound } from './port-rules.ts'
import { addLines, missingLines, publishedPorts, removeLines, removePresentLines } from './port-rules-iptables.ts'
import { addCommands, missingCommands, publishedByNft, removeCommands, tableOf } from './port-rules-nftables.ts'

/** Each change is one transaction of one family. */
export interface Writer {
  /**
   * @param siblings Whether another interface of the container has ports of the family.
   * @throws TsnetError with CNI code 103 when another container's rules have one of the ports
   */
  add(family: Family, rules: PortRules, siblings: boolean): void
  remove(family: Family, rules: PortRules, siblings: boolean): void
  /** @returns The rules that should be there and are not, as text. */
  missing(family: Family, rules: PortRules): readonly string[]
}

export const PORT_WRITERS: Readonly<Record<PortRulesBackend, Writer>> = {
  iptables: {
    add: (family, rules, siblings) => {
      const lines = addLines(family, rules, siblings)
      editTable(family, 'nat', {
        work: (chains) => {
          refuseFound(rules, publishedPorts(family, rules, chains))
          return lines(chains)
        },
      })
    },
    remove: (family, rules, siblings) =>
      editTable(family, 'nat', { blind: removeLines(family, rules, siblings), work: removePresentLines(family, rules, siblings) }),
    missing: (family, rules) => missingLines(family, rules, readTable(family, 'nat')),
  },
  nftables: {
    add: (family, rules) =>
      editNftTable(tableOf(family), (present) => {
        refuseFound(rules, publishedByNft(family, present))
        return addCommands(family, rules, present)
      }),
    remove: (family, rules) => editNftTable(tableOf(family), (present) => removeCommands(family, rules, present)),
    missing: (family, rules) => missingCommands(family, rules, listNftRules(tableOf(family))),
  },
}

/** @returns Which backend a configuration without one has. */
export function defaultPortBackend(): PortRulesBackend {
  return hasIptables(4) || !hasNft() ? 'iptables' : 'nftables'
}

/** @throws TsnetError with CNI code 50 when the backend's program is missing */
export function ensureBackend(backend: PortRulesBackend): void {
  if (backend === 'nftables') requireNft()
  else findIptables(4, 'restore')
}
