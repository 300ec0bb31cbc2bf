/** Moves the rules of a network from one backend to another: first there, then gone here, so that no port stops answering. */
import type { Backend, RulePart } from '../nat/backend.ts'
import type { PublishedPort } from '../nat/model.ts'
import type { NetworkRecord } from './network.ts'
import type { Owner } from './owner.ts'
import { rulesOfAttachment, rulesOfNetwork } from './policy.ts'
import { heldPorts } from './ports.ts'
import { type AttachmentRecord, listOwners, readRecord, recordedPort } from './record.ts'
import type { StateFolder } from './state-folder.ts'
import type { UndoStack } from './undo.ts'

export interface Move {
  readonly from: Backend
  readonly to: Backend
  /** Whether no other network has rules in `from`. */
  readonly last: boolean
  readonly undo: UndoStack
}

/** @param network Name and record, as it was, of the network. @param except The attachment that is just being made */
export function moveRules(
  state: StateFolder,
  network: { readonly name: string; readonly record: NetworkRecord },
  { from, to, last, undo }: Move,
  except: Owner,
): void {
  const isOther = (record: AttachmentRecord) => record.containerID !== except.containerID || record.ifname !== except.ifname
  const records = listOwners(state, network.name).flatMap((owner) => readRecord(state, owner) ?? [])
  const partWith = (portsOf: (record: AttachmentRecord) => readonly PublishedPort[]): RulePart => ({
    networks: rulesOfNetwork(network.record),
    attachments: records.filter(isOther).map((record) => rulesOfAttachment(record, portsOf(record))),
  })
  const part = partWith((record) => record.ports.map(recordedPort))
  undo.push('moved rules', () => to.startChange({ remove: part, base: 'keep' }).finish())
  to.startChange({ add: part, base: 'ensure' }).finish()
  undo.push('moved rules', () => from.startChange({ add: part, base: 'ensure' }).finish())
  from.startChange({ remove: partWith(heldPorts), base: last ? 'drop' : 'keep' }).finish()
}
