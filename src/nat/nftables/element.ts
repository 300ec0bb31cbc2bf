/** From the model to elements of sets and maps. Pure. */
import { addressToBytes, type IpPrefix, lastAddress, networkAddress } from '../../wire/ip-address.ts'
import type { SetElement } from '../../wire/nftables.ts'
import type { RulePart } from '../backend.ts'
import type { AttachmentRules, NetworkRules, Protocol, PublishedPort } from '../model.ts'
import { nameBytes } from './expression.ts'
import { setNames } from './ruleset.ts'

/** @see include/uapi/linux/in.h */
const IPPROTO: Readonly<Record<Protocol, number>> = { tcp: 6, udp: 17, sctp: 132 }
/** libnftables: a comment is type 0, its length, the text, a zero byte. @see libnftnl include/udata.h */
const UDATA_COMMENT = 0
const MOST_COMMENT_BYTES = 127

export interface PlacedElement {
  readonly set: string
  readonly element: SetElement
}

/** @returns Every element that the part of the rules consists of. */
export function elementsOf(part: RulePart): readonly PlacedElement[] {
  return [...part.networks.flatMap(networkElements), ...part.attachments.flatMap(attachmentElements)]
}

/** @returns The comment of an element, or undefined. */
export function commentOf(element: SetElement): string | undefined {
  const data = element.userdata
  if (data === undefined || data.length < 2 || data[0] !== UDATA_COMMENT) return undefined
  return Buffer.from(data.subarray(2, 1 + (data[1] ?? 0))).toString('utf8')
}

/** @returns Text that marks an element as an owner's: as much of it as fits. */
export function commentFor(owner: string): string {
  return owner.slice(0, MOST_COMMENT_BYTES)
}

function networkElements({ bridge, subnets, masquerade }: NetworkRules): readonly PlacedElement[] {
  const name = nameBytes(bridge)
  const plain = (set: string, value: Uint8Array): PlacedElement => ({ set, element: { key: { value } } })
  const perSubnet = (subnet: IpPrefix): readonly PlacedElement[] => {
    const names = setNames(subnet.address.family)
    const element = {
      key: { value: join(addressToBytes(networkAddress(subnet)), name) },
      keyEnd: { value: join(addressToBytes(lastAddress(subnet)), name) },
    }
    return [{ set: names.subnets, element }, ...(masquerade ? [{ set: names.masquerade, element }] : [])]
  }
  return [plain('bridges', name), plain('within', join(name, name)), ...subnets.flatMap(perSubnet)]
}

function attachmentElements({ owner, ports }: AttachmentRules): readonly PlacedElement[] {
  const userdata = encodeComment(commentFor(owner))
  return ports.flatMap((port) => portElements(port).map(({ set, element }) => ({ set, element: { ...element, userdata } })))
}

/** A range that keeps its numbers is one element; the kernel's maps cannot shift one, so a shifted range is an element for each port. */
function portElements(port: PublishedPort): readonly PlacedElement[] {
  const { family } = port.address
  const names = setNames(family)
  const at = port.hostAddress === undefined ? new Uint8Array() : addressToBytes(port.hostAddress)
  const key = (number: number) => ({ value: join(at, Uint8Array.of(IPPROTO[port.protocol], 0, 0, 0), portBytes(number)) })
  const address = addressToBytes(port.address)
  if (port.count > 1 && port.hostPort === port.containerPort) {
    const element = { key: key(port.hostPort), keyEnd: key(port.hostPort + port.count - 1), data: { value: address } }
    return [{ set: port.hostAddress === undefined ? names.ranges : names.rangesAt, element }]
  }
  const set = port.hostAddress === undefined ? names.published : names.publishedAt
  return Array.from({ length: port.count }, (_, i) => ({
    set,
    element: { key: key(port.hostPort + i), data: { value: join(address, portBytes(port.containerPort + i)) } },
  }))
}

/** Network byte order, filled up to a quarter of a register. */
function portBytes(port: number): Uint8Array {
  return Uint8Array.of(port >> 8, port & 255, 0, 0)
}

function encodeComment(text: string): Uint8Array {
  const bytes = Buffer.from(`${text}\0`, 'utf8')
  return join(Uint8Array.of(UDATA_COMMENT, bytes.length), bytes)
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts)
}
