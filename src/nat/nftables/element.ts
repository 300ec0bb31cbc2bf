/** From the model to elements of sets and maps. Pure. */
import { addressToBytes, type Family, type IpAddress, type IpPrefix, lastAddress, networkAddress, singlePrefix } from '../../wire/ip-address.ts'
import type { SetElement } from '../../wire/nftables.ts'
import type { RulePart } from '../backend.ts'
import { type AttachmentRules, directPorts, type NetworkRules, type Protocol, type PublishedPort } from '../model.ts'
import { jumpTo, nameBytes } from './expression.ts'
import { FROM, setNames, TO } from './ruleset.ts'

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

function networkElements({ bridge, subnets, masquerade, snat, icc, internal, trusted }: NetworkRules): readonly PlacedElement[] {
  const name = nameBytes(bridge)
  const at = (set: string, value: Uint8Array, data?: SetElement['data']): PlacedElement => ({
    set,
    element: { key: { value }, ...(data && { data }) },
  })
  const prefixed = (prefix: IpPrefix) => ({
    key: { value: join(addressToBytes(networkAddress(prefix)), name) },
    keyEnd: { value: join(addressToBytes(lastAddress(prefix)), name) },
  })
  const perSubnet = (subnet: IpPrefix): readonly PlacedElement[] => {
    const names = setNames(subnet.address.family)
    const element = prefixed(subnet)
    const source = snat.find(({ family }) => family === subnet.address.family)
    const out =
      source === undefined
        ? { set: names.masquerade, element }
        : { set: names.snat, element: { ...element, data: { value: addressToBytes(source) } } }
    return [{ set: names.subnets, element }, ...(masquerade ? [out] : [])]
  }
  const kind = internal ? 'internal' : 'open'
  return [
    at('bridges', name),
    at('from', name, jumpTo(FROM[kind])),
    at('to', name, jumpTo(TO[kind])),
    ...(icc ? [at('within', join(name, name))] : []),
    ...subnets.flatMap(perSubnet),
    ...trusted.map((prefix) => ({ set: setNames(prefix.address.family).trusted, element: prefixed(prefix) })),
  ]
}

function attachmentElements(attachment: AttachmentRules): readonly PlacedElement[] {
  const userdata = encodeComment(commentFor(attachment.owner))
  const { ports } = attachment
  const elements = [...ports.flatMap(portElements), ...ports.flatMap(limitElements), ...directPorts(attachment).flatMap(directElements)]
  return elements.map(({ set, element }) => ({ set, element: { ...element, userdata } }))
}

/** Who alone may connect: the port is in one set, and the port with each of its clients in another. */
function limitElements({ address, hostAddress, protocol, hostPort, count, allow }: PublishedPort): readonly PlacedElement[] {
  if (allow === undefined) return []
  const { family } = address
  const at = hostAddress === undefined ? everything(family) : singlePrefix(hostAddress)
  const port = { protocol, first: hostPort, count }
  const { limited, allowed } = setNames(family)
  return [{ set: limited, element: interval([at], port) }, ...allow.map((from) => ({ set: allowed, element: interval([from, at], port) }))]
}

function directElements({ address, protocol, containerPort, count, allow }: PublishedPort): readonly PlacedElement[] {
  const { family } = address
  const at = singlePrefix(address)
  const port = { protocol, first: containerPort, count }
  return (allow ?? [everything(family)]).map((from) => ({ set: setNames(family).direct, element: interval([from, at], port) }))
}

function everything(family: Family): IpPrefix {
  return { address: { family, value: 0n }, prefixLength: 0 }
}

interface PortRange {
  readonly protocol: Protocol
  readonly first: number
  readonly count: number
}

/** @returns The element that stands for all of the prefixes, side by side, with all of the ports. */
function interval(prefixes: readonly IpPrefix[], { protocol, first, count }: PortRange): SetElement {
  const key = (edge: (prefix: IpPrefix) => IpAddress, port: number) => ({
    value: join(...prefixes.map((prefix) => addressToBytes(edge(prefix))), protocolBytes(protocol), portBytes(port)),
  })
  return { key: key(networkAddress, first), keyEnd: key(lastAddress, first + count - 1) }
}

/** A range that keeps its numbers is one element; the kernel's maps cannot shift one, so a shifted range is an element for each port. */
function portElements(port: PublishedPort): readonly PlacedElement[] {
  const { family } = port.address
  const names = setNames(family)
  const at = port.hostAddress === undefined ? new Uint8Array() : addressToBytes(port.hostAddress)
  const key = (number: number) => ({ value: join(at, protocolBytes(port.protocol), portBytes(number)) })
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

function protocolBytes(protocol: Protocol): Uint8Array {
  return Uint8Array.of(IPPROTO[protocol], 0, 0, 0)
}

/** Network byte order, filled up to a quarter of a register. */
function portBytes(port: number): Uint8Array {
  return Uint8Array.of(port >> 8, port & 255, 0, 0)
}

/** @returns A comment as the kernel keeps it with an element. */
export function encodeComment(text: string): Uint8Array {
  const bytes = Buffer.from(`${text}\0`, 'utf8')
  return join(Uint8Array.of(UDATA_COMMENT, bytes.length), bytes)
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts)
}
