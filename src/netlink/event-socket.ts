/** What the kernel tells everybody: multicast groups of rtnetlink and of nf_tables. @see kernel: net/netlink/af_netlink.c */
import { closeSync } from 'node:fs'
import { EAGAIN, EINTR, ENOBUFS } from '../sys/errno.ts'
import { checked, errno, kernelError, libc } from '../sys/libc.ts'
import { decodeMessages, type Message } from '../wire/netlink-message.ts'
import { NETLINK_NETFILTER, NETLINK_ROUTE } from './socket.ts'

// include/linux/socket.h
const AF_NETLINK = 16
const SOCK_RAW = 3
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_RCVBUFFORCE = 33
const MSG_DONTWAIT = 0x40

// include/uapi/linux/rtnetlink.h, enum rtnetlink_groups; include/uapi/linux/netfilter/nfnetlink.h, enum nfnetlink_groups
const RTNLGRP_LINK = 1
const RTNLGRP_IPV4_IFADDR = 5
const RTNLGRP_IPV6_IFADDR = 9
const RTNLGRP_IPV4_NETCONF = 24
const RTNLGRP_IPV6_NETCONF = 25
const NFNLGRP_NFTABLES = 7

/** Bytes; some hundred events of links, more of rules. */
const RECEIVE_BUFFER = 1 << 21
/** How many datagrams are read before others get their turn. */
const MOST_DATAGRAMS = 2000

const received = Buffer.alloc(65536)

/** A socket that only listens, in the namespace in which it was opened. Whoever opened it disposes it. */
export class EventSocket implements Disposable {
  readonly fd: number

  private constructor(protocol: number, groups: readonly number[]) {
    this.fd = checked(libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol), 'open a netlink socket for events')
    try {
      const size = Buffer.alloc(4)
      size.writeUInt32LE(RECEIVE_BUFFER)
      libc.setsockopt(this.fd, SOL_SOCKET, SO_RCVBUFFORCE, size, 4)
      const address = Buffer.alloc(12)
      address.writeUInt16LE(AF_NETLINK)
      address.writeUInt32LE(
        groups.reduce((mask, group) => (mask | (1 << (group - 1))) >>> 0, 0),
        8,
      )
      checked(libc.bind(this.fd, address, address.length), 'listen to netlink events')
    } catch (error) {
      closeSync(this.fd)
      throw error
    }
  }

  /** Links, addresses, and the switches that the kernel tells of: forwarding is, route_localnet is not. */
  static ofLinks(): EventSocket {
    return new EventSocket(NETLINK_ROUTE, [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF])
  }

  /** Links alone, ports of bridges included. */
  static ofLinksAlone(): EventSocket {
    return new EventSocket(NETLINK_ROUTE, [RTNLGRP_LINK])
  }

  /** Rules in nf_tables, whoever wrote them: nft, iptables-nft, firewalld. @throws KernelError EPROTONOSUPPORT where there is no nfnetlink */
  static ofRules(): EventSocket {
    return new EventSocket(NETLINK_NETFILTER, [NFNLGRP_NFTABLES])
  }

  /**
   * Reads what has come, without waiting for more.
   * @returns false when events were lost: more came than the buffer holds, or what came cannot be read
   */
  drain(visit: (message: Message) => void): boolean {
    let complete = true
    for (let i = 0; i < MOST_DATAGRAMS; i++) {
      const length = libc.recv(this.fd, received, received.length, MSG_DONTWAIT)
      if (length >= 0) complete = this.#visit(received.subarray(0, length), visit) && complete
      else if (errno() === EAGAIN) return complete
      else if (errno() === ENOBUFS) complete = false
      else if (errno() !== EINTR) throw kernelError('receive netlink events', errno())
    }
    return complete
  }

  [Symbol.dispose](): void {
    closeSync(this.fd)
  }

  #visit(datagram: Buffer, visit: (message: Message) => void): boolean {
    try {
      for (const message of decodeMessages(datagram)) visit(message)
      return true
    } catch (error) {
      if (error instanceof RangeError) return false
      throw error
    }
  }
}
