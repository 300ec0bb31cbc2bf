import { existsSync } from 'node:fs'
import { type HostPorts, openHostPorts } from '../nat/host-ports.ts'
import type { PublishedPort } from '../nat/model.ts'
import type { PortLedger } from '../nat/port-ledger.ts'
import { parseAddress } from '../wire/ip-address.ts'
import { type AttachmentRecord, recordedPort } from './record.ts'
import { attachmentsFolder, chainedFolder, portsFolder, type StateFolder } from './state-folder.ts'

/** @returns The ledger of the host's ports: a claim lives as long as the record of its attachment, or what type portmap remembers of it. */
export function ledgerOf(state: StateFolder): PortLedger {
  return {
    folder: portsFolder(state),
    exists: (owner) => {
      const [network, attachment] = split(owner, owner.indexOf('/'))
      return [attachmentsFolder(state, network), chainedFolder(state, 'portmap', network)].some((folder) =>
        existsSync(`${folder}/${attachment}.json`),
      )
    },
    siblings: (a, b) => containerOf(a) === containerOf(b),
  }
}

/** @returns What processes of the host have; asked in the host's namespace. */
export function hostPortsFor({ containerID, addresses }: AttachmentRecord): HostPorts {
  return openHostPorts({ containerID, coming: addresses.flatMap(({ gateway }) => (gateway === undefined ? [] : (parseAddress(gateway) ?? []))) })
}

/** @returns Every port of which something may be there: rules, claim, connections. */
export function heldPorts({ ports, leaving = [] }: AttachmentRecord): readonly PublishedPort[] {
  return [...ports, ...leaving].map(recordedPort)
}

/** @param owner `network/containerID:ifname`; neither network nor container id holds a slash or colon. */
function containerOf(owner: string): string {
  const [, attachment] = split(owner, owner.indexOf('/'))
  return split(attachment, attachment.indexOf(':'))[0]
}

function split(text: string, at: number): readonly [string, string] {
  return [text.slice(0, at), text.slice(at + 1)]
}
