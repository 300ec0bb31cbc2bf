import { existsSync } from 'node:fs'
import type { PortLedger } from '../nat/port-ledger.ts'
import { attachmentsFolder, portsFolder, type StateFolder } from './state-folder.ts'

/** @returns The ledger of the host's ports: a claim lives as long as the record of its attachment. */
export function ledgerOf(state: StateFolder): PortLedger {
  return {
    folder: portsFolder(state),
    exists: (owner) => {
      const [network, attachment] = split(owner, owner.indexOf('/'))
      return existsSync(`${attachmentsFolder(state, network)}/${attachment}.json`)
    },
    siblings: (a, b) => containerOf(a) === containerOf(b),
  }
}

/** @param owner `network/containerID:ifname`; neither network nor container id holds a slash or colon. */
function containerOf(owner: string): string {
  const [, attachment] = split(owner, owner.indexOf('/'))
  return split(attachment, attachment.indexOf(':'))[0]
}

function split(text: string, at: number): readonly [string, string] {
  return [text.slice(0, at), text.slice(at + 1)]
}
