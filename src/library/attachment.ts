/** What a program says of an attachment that it wants, and what it learns of one. */

export interface AttachOptions {
  /** Absolute path of the network namespace: a file under /run/netns, or /proc/PID/ns/net. */
  readonly netns: string
  /** What the container is called: letters, digits, `_`, `.`, `-`. With network and ifname it names the attachment. */
  readonly containerID: string
  /** Default `tsnet`, which is built in; others are defined in /etc/cni/net.d, or where NETCONFPATH says. */
  readonly network?: string
  /** Name of the interface; default `eth0`. */
  readonly ifname?: string
  /** Ports as `tsnet attach -p` takes them: `[hostIP:][hostPort:]containerPort[/tcp|udp|sctp]`. */
  readonly publish?: readonly string[]
  /** Addresses and prefixes that alone may connect to them; default everybody. */
  readonly allow?: readonly string[]
  /** Addresses to ask for, one of each subnet; default any. */
  readonly ips?: readonly string[]
  /** Default a random one. */
  readonly mac?: string
  /** Whether the container may send with its own addresses only; default what the network says. */
  readonly guard?: boolean
}

export interface AttachmentName {
  readonly containerID: string
  /** Absent: in every network. */
  readonly network?: string
  /** Absent: by every interface. */
  readonly ifname?: string
}

/** One interface of one container, as it is. */
export interface Attachment {
  readonly network: string
  readonly containerID: string
  readonly ifname: string
  /** Path of the network namespace. */
  readonly netns: string
  readonly mac: string
  /** Bytes. */
  readonly mtu: number
  /** `address/length`, with the gateway where there is one. */
  readonly addresses: readonly { readonly address: string; readonly gateway?: string }[]
  readonly ports: readonly AttachedPort[]
}

/** A published port, or several in a row. */
export interface AttachedPort {
  readonly protocol: 'tcp' | 'udp' | 'sctp'
  /** Absent: every address of the host of the family of `address`. */
  readonly hostAddress?: string
  /** The first; chosen where the host's port was left open. */
  readonly hostPort: number
  /** How many. */
  readonly count: number
  /** The container's. */
  readonly address: string
  /** The first. */
  readonly containerPort: number
  /** Who alone may connect; absent: everybody. */
  readonly allow?: readonly string[]
}
