/**
 * The table `bridge tsnet`: what a guarded port may send. Constant rules over sets; an attachment only adds elements. All that is
 * not expressly a frame of the container's own is dropped, before the bridge learns a MAC address from it. Pure.
 * @see net/bridge/br_input.c, br_handle_frame: the hooks; RFC 826 (ARP); RFC 4861, sections 4 and 7.2 (neighbour discovery)
 */
import { type Expression, NFPROTO_BRIDGE } from '../../wire/nftables.ts'
import { verdict } from '../nftables/expression.ts'
import { HOST_BYTE_ORDER, type KeyPart, type SetLayout, type TableDefinition } from '../nftables/table.ts'
import { type Bytes, byteIsOutside, bytesAre, isIcmp6, isLaterFragment, portIsIn, portMaySend } from './expression.ts'

type Rule = readonly Expression[]

// include/uapi/linux/netfilter_bridge.h, enum nf_br_hook_priorities
const HOOK = { prerouting: 0, input: 1 }
const NF_BR_PRI_NAT_DST_BRIDGED = -300

// nftables include/datatype.h, enum datatypes
const PART = {
  ifname: { type: 41, length: 16 },
  mac: { type: 9, length: 6 },
  address4: { type: 7, length: 4 },
  address6: { type: 8, length: 16 },
} as const satisfies Record<string, KeyPart>

export const SET = { guarded: 'guarded', macs: 'macs', sources4: 'sources4', sources6: 'sources6' } as const

const SETS: readonly SetLayout[] = [
  { name: SET.guarded, key: [PART.ifname], userdata: HOST_BYTE_ORDER },
  { name: SET.macs, key: [PART.ifname, PART.mac] },
  { name: SET.sources4, key: [PART.ifname, PART.address4] },
  { name: SET.sources6, key: [PART.ifname, PART.address6] },
]

const link = (offset: number, length: number): Bytes => ({ base: 'link', offset, length })
const network = (offset: number, length: number): Bytes => ({ base: 'network', offset, length })
const transport = (offset: number, length: number): Bytes => ({ base: 'transport', offset, length })

const ETHER = { reserved: link(0, 5), source: link(6, 6), type: link(12, 2) }
/** 01:80:c2:00:00:0x. @see IEEE 802.1Q, table 8-1 */
const BRIDGE_GROUP = [0x01, 0x80, 0xc2, 0, 0]
const ETHERTYPE = { ip: [0x08, 0x00], arp: [0x08, 0x06], ip6: [0x86, 0xdd] }
const ARP = { format: network(0, 6), senderMac: network(8, 6), senderAddress: network(14, 4), targetAddress: network(24, 4) }
/** Ethernet and IPv4, with addresses of 6 and 4 bytes. */
const ARP_FORMAT = [0, 1, 0x08, 0x00, 6, 4]
const IP = { source: network(12, 4) }
const IP6 = { length: network(4, 2), source: network(8, 16) }
const UNSPECIFIED = { 4: [0, 0, 0, 0], 6: Array.from({ length: 16 }, () => 0) }
/** Neighbour solicitation and advertisement: target address, then options. */
const ICMP6 = { type: transport(0, 1), target: transport(8, 16), option: transport(24, 2), optionMac: transport(26, 6) }
const TYPE = { routerSolicitation: 133, solicitation: 135, advertisement: 136, redirect: 137, listenerReport: 143 }
/** ICMPv6 header and target, without an option and with one of 8 bytes. */
const LENGTH = { plain: [0, 24], withOption: [0, 32] }
/** Option type, and its length in units of 8 bytes. @see RFC 3971, section 5.3.2 (nonce) */
const OPTION = { sourceMac: [1, 1], targetMac: [2, 1], nonce: [14, 1] }

// Encoded only where they are written or counted: most networks are not guarded.
const drop = () => verdict('drop')
const accept = () => verdict('accept')
const own4 = (address: Bytes) => portMaySend(address, SET.sources4)
const own6 = (address: Bytes) => portMaySend(address, SET.sources6)

export const SOURCE_GUARD: TableDefinition = {
  family: NFPROTO_BRIDGE,
  name: 'tsnet',
  sets: SETS,
  chains: [
    { name: 'source-arp', rules: () => [...arpRules().map(of(ETHERTYPE.arp)), [drop()]] },
    { name: 'source-neighbour', rules: () => neighbourRules().map(of(ETHERTYPE.ip6)) },
    { name: 'source-ip6', rules: () => [...ip6Rules().map(of(ETHERTYPE.ip6)), [drop()]] },
    {
      name: 'source',
      rules: () => [
        [...portMaySend(ETHER.source, SET.macs, 'not in'), drop()],
        of(ETHERTYPE.ip)([...own4(IP.source), accept()]),
        of(ETHERTYPE.arp)([verdict({ jump: 'source-arp' })]),
        of(ETHERTYPE.ip6)([verdict({ jump: 'source-ip6' })]),
        [drop()],
      ],
    },
    {
      name: 'prerouting',
      hook: { type: 'filter', hooknum: HOOK.prerouting, priority: NF_BR_PRI_NAT_DST_BRIDGED },
      rules: () => [[...portIsIn(SET.guarded), verdict({ jump: 'source' })]],
    },
    {
      name: 'input',
      hook: { type: 'filter', hooknum: HOOK.input, priority: NF_BR_PRI_NAT_DST_BRIDGED },
      // Frames for bridges themselves come by no other hook, or by none: that no MAC address is learned from those is an option of the bridge.
      rules: () => [[...bytesAre(ETHER.reserved, BRIDGE_GROUP), ...portIsIn(SET.guarded), drop()]],
    },
  ],
}

/** @returns A rule for frames of a type. In a chain that no others come to, it also tells `nft list` what the bytes mean. */
function of(type: readonly number[]): (rule: Rule) => Rule {
  return (rule) => [...bytesAre(ETHER.type, type), ...rule]
}

/** A probe, whose sender is 0.0.0.0, must ask for an address of its own: it could else keep another from taking his. */
function arpRules(): readonly Rule[] {
  const ownMac = [...bytesAre(ARP.format, ARP_FORMAT), ...portMaySend(ARP.senderMac, SET.macs)]
  return [
    [...ownMac, ...own4(ARP.senderAddress), accept()],
    [...ownMac, ...bytesAre(ARP.senderAddress, UNSPECIFIED[4]), ...own4(ARP.targetAddress), accept()],
  ]
}

/** ICMPv6 tells neighbours about routers and addresses, also behind extension headers; a later fragment has no type to be looked at. */
function ip6Rules(): readonly Rule[] {
  return [
    [...own6(IP6.source), ...isIcmp6('is not'), accept()],
    [...own6(IP6.source), ...isIcmp6(), ...byteIsOutside(ICMP6.type, TYPE.routerSolicitation, TYPE.redirect), accept()],
    [...own6(IP6.source), ...isIcmp6(), ...isLaterFragment(), accept()],
    [...isIcmp6(), verdict({ jump: 'source-neighbour' })],
  ]
}

/** One option at most, and what it says must be the container's: those that cannot be checked are dropped. */
function neighbourRules(): readonly Rule[] {
  const is = (type: number) => [...isIcmp6(), ...bytesAre(ICMP6.type, [type])]
  const plain = bytesAre(IP6.length, LENGTH.plain)
  const option = (kind: readonly number[]) => [...bytesAre(IP6.length, LENGTH.withOption), ...bytesAre(ICMP6.option, kind)]
  const ownMac = portMaySend(ICMP6.optionMac, SET.macs)
  const unspecified = bytesAre(IP6.source, UNSPECIFIED[6])
  const advertisement = [...is(TYPE.advertisement), ...own6(IP6.source), ...own6(ICMP6.target)]
  const solicitation = [...is(TYPE.solicitation), ...own6(IP6.source)]
  // Duplicate address detection.
  const detection = [...is(TYPE.solicitation), ...unspecified, ...own6(ICMP6.target)]
  return [
    [...advertisement, ...option(OPTION.targetMac), ...ownMac, accept()],
    [...advertisement, ...plain, accept()],
    [...solicitation, ...option(OPTION.sourceMac), ...ownMac, accept()],
    [...solicitation, ...plain, accept()],
    [...detection, ...option(OPTION.nonce), accept()],
    [...detection, ...plain, accept()],
    // An interface joins groups before it has an address. @see RFC 3810, section 5.2.13
    [...is(TYPE.listenerReport), ...unspecified, accept()],
  ]
}
