/** From an attachment to the elements that let its own frames pass. Pure. */
import { addressToBytes, type IpAddress } from '../../wire/ip-address.ts'
import { commentFor, encodeComment, type PlacedElement } from '../nftables/element.ts'
import { nameBytes } from '../nftables/expression.ts'
import { SET } from './ruleset.ts'

export interface GuardedPort {
  /** Marks its elements: letters, digits, `_ . - : /`. */
  readonly owner: string
  /** The link that frames come by: the host's end of the veth pair. */
  readonly name: string
  readonly addresses: readonly IpAddress[]
}

/** One attachment's part of the guard. */
export interface SourceGuard {
  readonly port: GuardedPort
  /** Six bytes. */
  readonly mac: Uint8Array
  /** The other guarded ports of its container, which routes as it likes: each may send the addresses of all. */
  readonly siblings: readonly GuardedPort[]
}

/** @returns The elements that need nothing else: {@link SET.guarded} first. */
export function ownElements({ port, mac }: SourceGuard): readonly PlacedElement[] {
  const name = nameBytes(port.name)
  return [
    place(SET.guarded, port.owner, name),
    place(SET.macs, port.owner, Buffer.concat([name, mac, Uint8Array.of(0, 0)])),
    ...sourceElements(port, port),
  ]
}

/** @returns The elements that hold as long as both are guarded, each marked as the address' owner's. */
export function sharedElements(port: GuardedPort, sibling: GuardedPort): readonly PlacedElement[] {
  return [...sourceElements(port, sibling), ...sourceElements(sibling, port)]
}

/** @returns The element by which a port is guarded at all. */
export function guardedElement({ owner, name }: GuardedPort): PlacedElement {
  return place(SET.guarded, owner, nameBytes(name))
}

/** @returns Whether the element is about this port: the key begins with its name. */
export function isOfPort({ element }: PlacedElement, { name }: Pick<GuardedPort, 'name'>): boolean {
  const bytes = nameBytes(name)
  return Buffer.compare(Buffer.from(element.key?.value ?? []).subarray(0, bytes.length), bytes) === 0
}

function sourceElements(by: GuardedPort, of: GuardedPort): readonly PlacedElement[] {
  const name = nameBytes(by.name)
  return of.addresses.map((address) =>
    place(address.family === 4 ? SET.sources4 : SET.sources6, of.owner, Buffer.concat([name, addressToBytes(address)])),
  )
}

function place(set: string, owner: string, key: Uint8Array): PlacedElement {
  return { set, element: { key: { value: key }, userdata: encodeComment(commentFor(owner)) } }
}
