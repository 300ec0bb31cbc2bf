import { existsSync } from 'node:fs'
import type { PortLedger } from '../nat/port-ledger.ts'
import { attachmentsFolder, portsFolder, type StateFolder } from './state-folder.ts'

/** @returns The ledger of the host's ports: a claim lives as long as the record of its attachment. */
export function ledgerOf(state: StateFolder): PortLedger {
  return {
    folder: portsFolder(state),
    exists: (owner) => {
      const slash = owner.indexOf('/')
      return existsSync(`${attachmentsFolder(state, owner.slice(0, slash))}/${owner.slice(slash + 1)}.json`)
    },
  }
}
