/** What docs/rules.md shows: for each scenario who is attached with what, and what the rules then mean for a packet. */
import { ADDRESSES } from './host.ts'

export interface Attachment {
  readonly id: string
  readonly network: object
  readonly ports?: readonly object[]
}

export interface Scenario {
  readonly title: string
  /** The configuration in a few words. */
  readonly given: string
  readonly meaning: string
  readonly attachments: readonly Attachment[]
}

/** Where the scenario with flannel's file finds it. */
export const SUBNET_FILE = {
  path: '/run/flannel/subnet.env',
  text: 'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1350\nFLANNEL_IPMASQ=true\n',
}

const network = (name: string, ...subnets: readonly string[]) => ({
  cniVersion: '1.1.0',
  name,
  type: 'tsnet',
  bridge: `br-${name}`,
  ipam: { ranges: subnets.map((subnet) => [{ subnet }]) },
})

const NET = network('net', '10.50.0.0/24')
const WEB = { hostPort: 8080, containerPort: 80, protocol: 'tcp' }
const web = (...ports: readonly object[]): readonly Attachment[] => [{ id: 'web', network: NET, ports }]

export const SCENARIOS: readonly Scenario[] = [
  {
    title: 'One container without ports',
    given: 'Network `net`, bridge `br-net`, 10.50.0.0/24; container `web` gets 10.50.0.2.',
    meaning:
      "What the container sends out of another link than its bridge leaves with the host's address (multicast keeps its own), and the answers come " +
      'in because they belong to a connection. Nothing else reaches the container from another link: a packet that opens a connection to it is dropped.',
    attachments: web(),
  },
  {
    title: 'One TCP port',
    given: '`{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }`',
    meaning:
      "A packet to port 8080 of any of the host's IPv4 addresses goes on to 10.50.0.2 port 80; a client outside keeps its address. It passes the filter " +
      'because its connection is a translated one; a packet straight to 10.50.0.2 port 80 from outside is still dropped.',
    attachments: web(WEB),
  },
  {
    title: 'A UDP port on one host address',
    given: `\`{ "hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "${ADDRESSES[4].host}" }\``,
    meaning:
      `Only a packet to ${ADDRESSES[4].host} is translated; port 5353 of the host's other addresses stays the host's. ` +
      'Another container may publish it on another address, but no longer on every address.',
    attachments: web({ hostPort: 5353, containerPort: 53, protocol: 'udp', hostIP: ADDRESSES[4].host }),
  },
  {
    title: 'The same port for TCP and UDP',
    given: 'Port 53 to port 53, once with `tcp` and once with `udp`.',
    meaning: 'Two publications that have nothing to do with each other: a packet is looked up by protocol and port together.',
    attachments: web(...['tcp', 'udp'].map((protocol) => ({ hostPort: 53, containerPort: 53, protocol }))),
  },
  {
    title: 'A range that keeps its ports',
    given: '`{ "hostPort": 8000, "containerPort": 8000, "protocol": "tcp", "range": 11 }`',
    meaning:
      'Eleven ports are one element, or one rule; ten thousand would be too. A packet to port 8003 reaches port 8003 of the container: ' +
      'only the address is translated.',
    attachments: web({ hostPort: 8000, containerPort: 8000, protocol: 'tcp', range: 11 }),
  },
  {
    title: 'A range that is shifted',
    given: '`{ "hostPort": 8000, "containerPort": 9000, "protocol": "tcp", "range": 11 }`',
    meaning:
      'A packet to port 8003 reaches port 9003. In iptables one rule says so by the first port of the range (`/8000`); ' +
      'an nftables map has no such arithmetic, so there each port is an element of its own.',
    attachments: web({ hostPort: 8000, containerPort: 9000, protocol: 'tcp', range: 11 }),
  },
  {
    title: 'A port on 127.0.0.1',
    given: '`{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1" }`',
    meaning:
      "Processes of the host alone reach it: their packets go to the container with the bridge's address as their source, so that the answer finds " +
      'back. A packet to 127.0.0.1 that a neighbour on the wire or a container sends is dropped before anything is translated.',
    attachments: web({ ...WEB, hostIP: '127.0.0.1' }),
  },
  {
    title: 'Dual stack',
    given: 'Network `dual`, 10.51.0.0/24 and fd00:51::/64; port 8080 to port 80 without a host address.',
    meaning:
      "One port mapping publishes on the host's addresses of both families, each to the container's address of that family: no packet changes its family. " +
      'A packet to ::1 is not translated, because the kernel would not let it leave the loopback interface.',
    attachments: [{ id: 'web', network: network('dual', '10.51.0.0/24', 'fd00:51::/64'), ports: [WEB] }],
  },
  {
    title: 'A port on one IPv6 address',
    given: `Network \`six\`, fd00:56::/64; \`"hostIP": "${ADDRESSES[6].host}"\`.`,
    meaning: `Only a packet to port 8080 of ${ADDRESSES[6].host} is translated. Nothing is added for IPv4.`,
    attachments: [{ id: 'web', network: network('six', 'fd00:56::/64'), ports: [{ ...WEB, hostIP: ADDRESSES[6].host }] }],
  },
  {
    title: 'Two containers with ports',
    given: '`web` publishes 8080 and `db` 5432, both on network `net`.',
    meaning:
      'What the network needs is there once; each container adds its ports and nothing else, with a comment that names the owner, so that its DEL ' +
      'takes away these alone. Between the two nothing is translated; if `db` asks the host for port 8080, its packet comes back to the bridge with ' +
      "the bridge's address, so that the answer takes the same way.",
    attachments: [...web(WEB), { id: 'db', network: NET, ports: [{ hostPort: 5432, containerPort: 5432, protocol: 'tcp' }] }],
  },
  {
    title: 'Two networks',
    given: '`web` with port 8080 on network `net`; `job` without ports on network `other`, 10.52.0.0/24.',
    meaning:
      'A packet from `other` to 10.50.0.2 comes from another link than `br-net` and opens a connection, so it is dropped: networks do not reach each ' +
      'other. Port 8080 of the host is open to `job` as to everybody, and `web` sees the address of `job` there.',
    attachments: [...web(WEB), { id: 'job', network: network('other', '10.52.0.0/24') }],
  },
  {
    title: 'Without masquerading',
    given: '`"ipMasq": false`, port 8080 to port 80.',
    meaning:
      'What the container sends leaves with its own address; the network outside must know the way back. What it asks of its own published port is ' +
      'still masqueraded, since the answer would otherwise not pass the host, and unasked packets from outside are still dropped.',
    attachments: [{ id: 'web', network: { ...NET, ipMasq: false }, ports: [WEB] }],
  },
  {
    title: 'A port for some clients',
    given: '`{ "hostPort": 5432, "containerPort": 5432, "protocol": "tcp", "allow": ["10.99.0.0/24", "10.77.0.1"] }`',
    meaning:
      'Packets of the clients that are named are translated. For all others, the host itself and other containers included, the port is not ' +
      'published: they meet what the host answers on a closed port.',
    attachments: web({ hostPort: 5432, containerPort: 5432, protocol: 'tcp', allow: ['10.99.0.0/24', '10.77.0.1'] }),
  },
  {
    title: 'Containers kept apart',
    given: '`"icc": false`; `web` publishes 8080, `job` nothing.',
    meaning:
      'What goes from `br-net` to `br-net` is dropped unless it came by a published port. Frames that stay on the bridge pass these rules too, ' +
      'because tsnet sets `nf_call_iptables` of the bridge; where the kernel has no br_netfilter, the ports of the bridge are isolated instead.',
    attachments: [
      { id: 'web', network: { ...NET, icc: false }, ports: [WEB] },
      { id: 'job', network: { ...NET, icc: false } },
    ],
  },
  {
    title: 'An internal network',
    given: '`"internal": true`.',
    meaning: 'Nothing passes between the bridge and another link, in either direction, answers included. Containers and the host reach each other.',
    attachments: [{ id: 'db', network: { ...NET, internal: true } }],
  },
  {
    title: 'A routed network',
    given: '`"gatewayMode": "routed"`, port 8080 to port 80.',
    meaning:
      'Nothing is masqueraded. Who knows the way to 10.50.0.0/24 reaches port 80 of 10.50.0.2, and no other port; port 8080 of the host works as ever.',
    attachments: [{ id: 'web', network: { ...NET, gatewayMode: 'routed' }, ports: [WEB] }],
  },
  {
    title: 'Trusted sources, and a chosen source address',
    given: '`"trusted": ["10.244.0.0/16"]`, `"snat": "10.99.0.3"`.',
    meaning:
      'Who has an address of 10.244.0.0/16, pods on other nodes for example, reaches all ports of the containers. What containers send leaves with 10.99.0.3.',
    attachments: [{ id: 'web', network: { ...NET, trusted: ['10.244.0.0/16'], snat: '10.99.0.3' } }],
  },
  {
    title: 'Own addresses only',
    given: '`"macspoofchk": true`, network `own`, 10.57.0.0/24 and fd00:57::/64. The MAC address is asked for: 02:00:00:00:00:01.',
    meaning:
      'A frame from the port `tsn…` of a guarded container goes through `source`, before the bridge looks at it, and ends there unless it is expressly the ' +
      "container's own; frames from other ports do not. `source-arp` and `source-neighbour` let pass what tells neighbours about own addresses; `@th,64,128` " +
      'is the target of a neighbour message, and behind it are its option and the MAC address in that. `input` is for frames to the addresses of ' +
      'bridges themselves, which come by no other hook; the option `no_linklocal_learn` keeps the bridge from learning from them.',
    attachments: [
      {
        id: 'web',
        network: { ...network('own', '10.57.0.0/24', 'fd00:57::/64'), macspoofchk: true, args: { cni: { mac: '02:00:00:00:00:01' } } },
      },
    ],
  },
  {
    title: 'A subnet from flannel',
    given: `\`"ipam": { "subnetFile": "${SUBNET_FILE.path}" }\`, which says 10.244.3.0/24 and \`FLANNEL_IPMASQ=true\`.`,
    meaning:
      'As flannel masquerades itself, tsnet does not: a packet to a container on another node keeps its address. ' +
      'The rest is as in any network with `ipMasq` false.',
    attachments: [{ id: 'web', network: { ...NET, name: 'pods', bridge: 'br-pods', ipam: { subnetFile: SUBNET_FILE.path } }, ports: [WEB] }],
  },
]
