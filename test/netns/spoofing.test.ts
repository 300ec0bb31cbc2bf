import assert from 'node:assert/strict'
import { ADDRESSES, addressIn, type CniDocument, type Container, DUAL_STACK, type Host, hostTest, TSNET } from './host.ts'
import { eventually } from './machine.ts'
import { arp, ETHERTYPE, ethernet, icmp6, neighbour, sendFrames, udp } from './raw-frames.ts'
import { Sniffer } from './sniff.ts'
import { assertNothingLeft, assertRefused, rulesOf } from './state.ts'

const GUARDED = { ...DUAL_STACK, macspoofchk: true }
/** Of a second network, guarded as well. */
const OTHER = { ...GUARDED, name: 'other', bridge: 'br-other', ipam: { ranges: [[{ subnet: '10.60.0.0/24' }], [{ subnet: 'fd00:60::/64' }]] } }
const PROBES = '01:80:c2:00:00:0e'
const ALL_NODES = 'ff02::1'

interface Party {
  readonly container: Container
  readonly mac: string
  readonly v4: string
  readonly v6: string
  readonly linkLocal: string
}

function join(host: Host, name: string, conf: object): Party {
  const container = host.container(name)
  return partyOf(container, host.mustCni('ADD', { id: name, netns: container, conf }))
}

function partyOf(container: Container, result: CniDocument): Party {
  const mac = result.interfaces?.find(({ sandbox }) => sandbox !== undefined)?.mac ?? ''
  const octets = mac.split(':').map((octet) => Number.parseInt(octet, 16))
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = octets
  const group = (high: number, low: number) => (high * 256 + low).toString(16)
  const linkLocal = `fe80::${group(a ^ 2, b)}:${group(c, 0xff)}:${group(0xfe, d)}:${group(e, f)}`
  return { container, mac, v4: addressIn(result, 4), v6: addressIn(result, 6), linkLocal }
}

const table = (host: Host) => host.run(['nft', '-s', 'list', 'table', 'bridge', 'tsnet']).stdout

/** What `me` may not send, each with what tcpdump says of it; `victim` is whom it pretends to be. */
function forgeries(me: Party, victim: Party): Readonly<Record<string, readonly [Uint8Array, RegExp]>> {
  const foreign = '02:00:00:00:be:ef'
  const from = (source: string, type: number, payload: Uint8Array) => ethernet({ source, type }, payload)
  const mine = (type: number, payload: Uint8Array) => from(me.mac, type, payload)
  const icmp = (message: Parameters<typeof icmp6>[0], before?: Parameters<typeof icmp6>[1]) => mine(ETHERTYPE.ip6, icmp6(message, before))
  const advertise = (target: string, mac = me.mac) => ({
    source: me.v6,
    destination: ALL_NODES,
    type: 136,
    body: neighbour(target, { kind: 2, mac }),
  })
  const advertised = (target: string) => new RegExp(`${me.v6} > ff02::1:.*neighbor advertisement, tgt is ${target}`)
  return {
    'a frame with another MAC address': [from(foreign, ETHERTYPE.ip, udp({ source: me.v4, destination: victim.v4 }, 7001)), /\.7001[: ]/],
    'an IPv4 packet of another': [mine(ETHERTYPE.ip, udp({ source: victim.v4, destination: '10.50.0.255' }, 7002)), /\.7002[: ]/],
    'an IPv4 packet from outside': [mine(ETHERTYPE.ip, udp({ source: ADDRESSES[4].far, destination: victim.v4 }, 7003)), /\.7003[: ]/],
    'an IPv4 packet without a source': [mine(ETHERTYPE.ip, udp({ source: '0.0.0.0', destination: '255.255.255.255' }, 7004)), /\.7004[: ]/],
    'an IPv6 packet of another': [mine(ETHERTYPE.ip6, udp({ source: victim.v6, destination: ALL_NODES }, 7005)), /\.7005[: ]/],
    'an IPv6 packet of a foreign link-local address': [mine(ETHERTYPE.ip6, udp({ source: 'fe80::1', destination: ALL_NODES }, 7006)), /\.7006[: ]/],
    'an IPv6 packet without a source': [mine(ETHERTYPE.ip6, udp({ source: '::', destination: ALL_NODES }, 7007)), /\.7007[: ]/],
    'a packet with a VLAN tag': [
      mine(ETHERTYPE.vlan, Buffer.concat([Buffer.of(0, 5, 8, 0), udp({ source: me.v4, destination: victim.v4 }, 7008)])),
      /vlan 5|7008/,
    ],
    'a frame of another type': [mine(0x88b5, Buffer.alloc(46, 1)), /0x88b5/],
    'a frame of IEEE 802.3': [mine(40, Buffer.concat([Buffer.of(0xaa, 0xaa, 3), Buffer.alloc(43, 2)])), /802\.3/],
    'a reverse ARP': [mine(ETHERTYPE.rarp, arp({ operation: 3, senderMac: me.mac, sender: me.v4, target: victim.v4 })), /0x8035|RARP|Reverse/],
    'an ARP with another sender MAC address': [
      mine(ETHERTYPE.arp, arp({ operation: 2, senderMac: foreign, sender: me.v4, target: me.v4 })),
      /is-at 02:00:00:00:be:ef/,
    ],
    'an ARP with another sender address': [
      mine(ETHERTYPE.arp, arp({ operation: 2, senderMac: me.mac, sender: '10.50.0.200', target: victim.v4 })),
      /10\.50\.0\.200 is-at/,
    ],
    'an ARP probe for the address of another': [
      mine(ETHERTYPE.arp, arp({ senderMac: me.mac, sender: '0.0.0.0', target: '10.50.0.201' })),
      /who-has 10\.50\.0\.201/,
    ],
    'an advertisement of the address of another': [icmp(advertise('fd00:50::aa01')), advertised('fd00:50::aa01')],
    'the same behind an extension header': [icmp(advertise('fd00:50::aa02'), 'hop-by-hop'), /fd00:50::aa02/],
    'the same in a fragment': [icmp(advertise('fd00:50::aa03'), 'only fragment'), /fd00:50::aa03/],
    'an advertisement with the MAC address of another': [icmp(advertise(me.linkLocal, foreign)), advertised(me.linkLocal)],
    'a router advertisement': [
      icmp({ source: me.linkLocal, destination: ALL_NODES, type: 134, body: Buffer.from('400007080000000000000000', 'hex') }),
      /router advertisement/,
    ],
    'duplicate address detection of the address of another': [
      icmp({ source: '::', destination: ALL_NODES, type: 135, body: neighbour('fd00:50::aa04') }),
      /who has fd00:50::aa04/,
    ],
    'a solicitation with the MAC address of another': [
      icmp({ source: me.v6, destination: ALL_NODES, type: 135, body: neighbour('fd00:50::aa05', { kind: 1, mac: foreign }) }),
      /who has fd00:50::aa05/,
    ],
    'an echo request of another': [
      icmp({ source: 'fd00:50::aa06', destination: ALL_NODES, type: 128, body: Buffer.alloc(8) }),
      /fd00:50::aa06 > .*echo request/,
    ],
  }
}

/** What `me` may send. */
function honesties(me: Party, neighbourParty: Party): Readonly<Record<string, readonly [Uint8Array, RegExp]>> {
  const mine = (type: number, payload: Uint8Array) => ethernet({ source: me.mac, type }, payload)
  const icmp = (message: Parameters<typeof icmp6>[0], before?: Parameters<typeof icmp6>[1]) => mine(ETHERTYPE.ip6, icmp6(message, before))
  const toAll = { source: me.v6, destination: ALL_NODES }
  return {
    'an IPv4 packet': [mine(ETHERTYPE.ip, udp({ source: me.v4, destination: neighbourParty.v4 }, 8001)), /\.8001[: ]/],
    'an IPv6 packet': [mine(ETHERTYPE.ip6, udp(toAll, 8002)), /\.8002[: ]/],
    'an IPv6 packet of the link-local address': [mine(ETHERTYPE.ip6, udp({ ...toAll, source: me.linkLocal }, 8003)), /\.8003[: ]/],
    'an ARP request': [mine(ETHERTYPE.arp, arp({ senderMac: me.mac, sender: me.v4, target: '10.50.0.210' })), /who-has 10\.50\.0\.210/],
    'a probe for its own address': [
      mine(ETHERTYPE.arp, arp({ senderMac: me.mac, sender: '0.0.0.0', target: me.v4 })),
      new RegExp(`who-has ${me.v4.replaceAll('.', '\\.')} `),
    ],
    'an advertisement of its address': [
      icmp({ ...toAll, type: 136, body: neighbour(me.v6, { kind: 2, mac: me.mac }) }),
      new RegExp(`neighbor advertisement, tgt is ${me.v6}`),
    ],
    'an advertisement of its link-local address without option': [
      icmp({ ...toAll, source: me.linkLocal, type: 136, body: neighbour(me.linkLocal) }),
      new RegExp(`neighbor advertisement, tgt is ${me.linkLocal}`),
    ],
    'a solicitation': [icmp({ ...toAll, type: 135, body: neighbour('fd00:50::bb01', { kind: 1, mac: me.mac }) }), /who has fd00:50::bb01/],
    'duplicate address detection of its own address': [
      icmp({ source: '::', destination: ALL_NODES, type: 135, body: neighbour(me.v6, { kind: 14, mac: '11:22:33:44:55:66' }) }),
      new RegExp(`:: > ff02::1:.*who has ${me.v6}`),
    ],
    'a listener report': [icmp({ source: '::', destination: 'ff02::16', type: 143, body: Buffer.alloc(4) }, 'hop-by-hop'), /:: > ff02::16/],
    'an echo request': [icmp({ ...toAll, type: 128, body: Buffer.alloc(8) }), new RegExp(`${me.v6} > ff02::1: .*echo request`)],
  }
}

hostTest('of what a guarded container sends, its neighbours see only what is its own; of one that is not, everything', async (host, t) => {
  const neighbourParty = join(host, 'neighbour', DUAL_STACK)
  const guarded = join(host, 'guarded', GUARDED)
  const free = join(host, 'free', DUAL_STACK)
  const sniffer = await Sniffer.start(neighbourParty.container, 'eth0', 'not port 53')
  t.after(() => sniffer.stop())
  const forged = Object.entries(forgeries(guarded, neighbourParty))
  const honest = Object.entries(honesties(guarded, neighbourParty))
  const frames = (list: typeof forged) => list.map(([, [frame]]) => frame)
  sendFrames(guarded.container, 'eth0', [...frames(forged), ...frames(honest)])
  for (const [, [, pattern]] of honest) await sniffer.line(pattern)
  for (const [what, [, pattern]] of forged) assert.ok(!sniffer.saw(pattern), `${what} arrived: ${await seen(sniffer, pattern)}`)
  // The same forgeries do arrive where nobody guards: they are what they pretend to be.
  sendFrames(free.container, 'eth0', frames(Object.entries(forgeries(guarded, neighbourParty))))
  for (const [, [, pattern]] of forged) await sniffer.line(pattern)
})

async function seen(sniffer: Sniffer, pattern: RegExp): Promise<string> {
  return sniffer.saw(pattern) ? sniffer.line(pattern) : ''
}

hostTest("a guarded container cannot change its neighbours' tables, nor where the bridge sends their frames", async (host) => {
  const victim = join(host, 'victim', DUAL_STACK)
  const guarded = join(host, 'guarded', GUARDED)
  const free = join(host, 'free', DUAL_STACK)
  const gateways = ['10.50.0.1', 'fd00:50::1']
  for (const gateway of gateways) victim.container.exec(['ping', '-c', '1', '-W', '5', gateway])
  const known = (gateway: string) =>
    victim.container.json<{ dst: string; lladdr?: string }>('ip', '-j', 'neigh', 'show', gateway).find(({ lladdr }) => lladdr !== undefined)?.lladdr
  const portOf = (mac: string) => /dev (\S+)/.exec(host.sh(`bridge fdb show br br-net | grep "^${mac} .*master br-net" || true`))?.[1]
  const right = gateways.map(known)
  const poison = ({ mac }: Party) => [
    ethernet(
      { source: mac, destination: victim.mac, type: ETHERTYPE.arp },
      arp({ operation: 2, senderMac: mac, sender: '10.50.0.1', target: victim.v4 }),
    ),
    ethernet(
      { source: mac, destination: victim.mac, type: ETHERTYPE.ip6 },
      icmp6({ source: 'fd00:50::1', destination: victim.v6, type: 136, body: neighbour('fd00:50::1', { kind: 2, mac }) }),
    ),
    // A frame to an address that bridges do not forward, from which they learn all the same.
    ethernet({ source: '02:00:00:00:fd:b0', destination: PROBES, type: 0x88cc }, Buffer.alloc(46)),
  ]
  // What is younger than a second is not replaced by an ARP. @see net.ipv4.neigh.*.locktime
  await new Promise((resolve) => setTimeout(resolve, 1100))
  sendFrames(guarded.container, 'eth0', poison(guarded))
  guarded.container.exec(['ping', '-c', '1', '-W', '5', victim.v4])
  assert.deepEqual(gateways.map(known), right)
  assert.equal(portOf('02:00:00:00:fd:b0'), undefined)
  sendFrames(free.container, 'eth0', poison(free))
  await eventually('the forgeries work where nobody guards', () => gateways.every((gateway) => known(gateway) === free.mac))
  host.sh('ip link set br-net type bridge no_linklocal_learn 0')
  sendFrames(guarded.container, 'eth0', poison(guarded))
  await eventually('a bridge without the option learns', () => portOf('02:00:00:00:fd:b0') !== undefined)
})

hostTest('a guarded container does all that another does', async (host, t) => {
  const neighbourParty = join(host, 'neighbour', DUAL_STACK)
  const sniffer = await Sniffer.start(neighbourParty.container, 'eth0', 'arp or icmp6')
  t.after(() => sniffer.stop())
  const container = host.container('guarded')
  const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }]
  const me = partyOf(container, host.mustCni('ADD', { id: 'guarded', netns: container, conf: GUARDED, runtimeConfig: { portMappings } }))
  await sniffer.line(new RegExp(`${me.mac} > ${'ff:'.repeat(5)}ff.*${me.v4} `))
  await sniffer.line(new RegExp(`neighbor advertisement, tgt is ${me.v6}`))
  await neighbourParty.container.talker.serve({ protocol: 'tcp', address: '::', port: 81 }, 'neighbour6')
  await neighbourParty.container.talker.serve({ protocol: 'tcp', address: '0.0.0.0', port: 81 }, 'neighbour4')
  for (const [family, any, own] of [[4, '0.0.0.0', me.v4] as const, [6, '::', me.v6] as const]) {
    await container.talker.serve({ protocol: 'tcp', address: any, port: 80 }, 'guarded')
    const address = ADDRESSES[family]
    await host.outside.talker.serve({ protocol: 'tcp', address: address.far, port: 9000 }, 'far')
    assert.equal((await container.talker.ask({ protocol: 'tcp', address: address.far, port: 9000 })).name, 'far')
    assert.equal((await host.outside.talker.ask({ protocol: 'tcp', address: address.host, port: 8080 })).name, 'guarded')
    assert.equal((await container.talker.ask({ protocol: 'tcp', address: address.host, port: 8080 })).name, 'guarded', 'hairpin')
    const neighbourAddress = family === 4 ? neighbourParty.v4 : neighbourParty.v6
    assert.equal((await container.talker.ask({ protocol: 'tcp', address: neighbourAddress, port: 81 })).name, `neighbour${family}`)
    assert.equal((await neighbourParty.container.talker.ask({ protocol: 'tcp', address: own, port: 80 })).name, 'guarded')
  }
  container.sh(`ip -6 addr del ${me.v6}/64 dev eth0; echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_dad; ip -6 addr add ${me.v6}/64 dev eth0`)
  await sniffer.line(new RegExp(`:: > .*who has ${me.v6}`))
  await eventually(
    'the address is past its detection',
    () => !/tentative|dadfailed/.test(container.exec(['ip', '-6', 'addr', 'show', 'dev', 'eth0'])),
  )
  // Large enough for fragments.
  container.exec(['ping', '-c', '1', '-W', '5', '-s', '5000', neighbourParty.v6])
  container.exec(['ping', '-c', '1', '-W', '5', '-s', '5000', neighbourParty.v4])
  container.exec(['ping', '-c', '1', '-W', '5', `ff02::1%eth0`])
})

hostTest('interfaces of one container may send the addresses of all of them, on one network and on two', async (host) => {
  const neighbourParty = join(host, 'neighbour', DUAL_STACK)
  const container = host.container('c1')
  const [first, second, third] = (
    [
      ['eth0', GUARDED],
      ['eth1', GUARDED],
      ['eth2', OTHER],
    ] as const
  ).map(([ifname, conf]) => partyOf(container, host.mustCni('ADD', { netns: container, ifname, conf })))
  if (first === undefined || second === undefined || third === undefined) throw new Error('There are three interfaces')
  const { talker } = neighbourParty.container
  for (const { v4, v6 } of [first, second]) {
    for (const address of [v4, v6]) {
      await container.talker.serve({ protocol: 'tcp', address, port: 80 }, address)
      assert.equal((await talker.ask({ protocol: 'tcp', address, port: 80 })).name, address)
    }
  }
  // Without its policy rule, what the third sends to other networks leaves by the first, where the default route is.
  container.exec(['ip', 'rule', 'del', 'from', third.v4])
  const sniffer = await Sniffer.start(host, 'br-net', `src ${third.v4}`)
  container.run(['ping', '-c', '1', '-W', '1', '-I', third.v4, ADDRESSES[4].far])
  await sniffer.line(new RegExp(`> ${ADDRESSES[4].far}`))
  sniffer.stop()
  for (const [i, conf] of [GUARDED, GUARDED, OTHER].entries()) {
    if (i === 1) assert.doesNotMatch(table(host), new RegExp(first.v4.replaceAll('.', '\\.')))
    host.mustCni('DEL', { netns: container, ifname: `eth${i}`, conf })
  }
  assert.equal(table(host), '')
  host.mustCni('DEL', { id: 'neighbour' })
  assertNothingLeft(host)
})

hostTest('the table goes with the last guarded container, and there is none without', (host) => {
  const [one, two] = [host.container('one'), host.container('two')]
  host.mustCni('ADD', { id: 'two', netns: two })
  assert.equal(table(host), '')
  host.mustCni('ADD', { id: 'one', netns: one, conf: GUARDED })
  assert.match(table(host), /comment "net\/one:eth0"/)
  host.mustCni('ADD', { id: 'other', netns: two, ifname: 'eth1', conf: OTHER })
  host.mustCni('DEL', { id: 'one', netns: one, conf: GUARDED })
  assert.doesNotMatch(table(host), /net\/one/)
  host.mustCni('DEL', { id: 'two', netns: two })
  assert.match(table(host), /other\/other:eth1/)
  host.sh('rm /run/tsnet/attachments/other/*')
  host.mustCni('DEL', { id: 'other', ifname: 'eth1', conf: OTHER })
  assert.equal(table(host), '')
  assertNothingLeft(host)
})

hostTest('GC removes the guard of what is not listed', (host) => {
  for (const id of ['one', 'two']) host.mustCni('ADD', { id, netns: host.container(id), conf: GUARDED })
  host.exec(['ip', 'netns', 'del', 'two'])
  host.mustCni('GC', { conf: { ...GUARDED, 'cni.dev/valid-attachments': [{ containerID: 'one', ifname: 'eth0' }] } })
  assert.doesNotMatch(table(host), /net\/two/)
  host.mustCni('GC', { conf: { ...GUARDED, 'cni.dev/valid-attachments': [] } })
  assertNothingLeft(host)
})

hostTest('CHECK tells what the guard lacks, and repair makes it again', (host) => {
  const netns = host.container('c1')
  const call = { netns, conf: GUARDED }
  const prevResult = host.mustCni('ADD', call)
  const whole = table(host)
  host.mustCni('CHECK', { ...call, prevResult })
  for (const damage of [
    'delete table bridge tsnet',
    'flush set bridge tsnet guarded',
    'flush set bridge tsnet sources6',
    'flush set bridge tsnet macs',
    'flush chain bridge tsnet source',
  ]) {
    host.exec(['nft', ...damage.split(' ')])
    const { json } = host.cni('CHECK', { ...call, prevResult })
    assert.equal(json.code, 104, damage)
    assert.match(`${json.msg}${json.details}`, /guard of its sources/, damage)
    assert.match(host.exec([TSNET, 'repair', '--dry-run']), /missing\tthe guard/)
    assert.match(host.exec([TSNET, 'repair']), /c1\teth0\tnet\trepaired\tthe guard/, damage)
    host.mustCni('CHECK', { ...call, prevResult })
    assert.equal(table(host), whole, damage)
  }
})

hostTest('an ADD that fails leaves no guard, and "macspoofchk" must be true or false', (host) => {
  const netns = host.container('c1')
  const ipam = { ...DUAL_STACK.ipam, routes: [{ dst: '10.123.0.0/16', gw: '10.200.0.1' }] }
  assertRefused(host, 'ADD', { netns, conf: { ...GUARDED, ipam } }, 999)
  assertNothingLeft(host)
  host.mustCni('ADD', { id: 'standing', netns: host.container('standing'), conf: GUARDED })
  assertRefused(host, 'ADD', { netns, conf: { ...GUARDED, ipam } }, 999)
  assertRefused(host, 'ADD', { netns, conf: { ...GUARDED, macspoofchk: 'yes' } }, 7)
  host.mustCni('STATUS', { conf: GUARDED })
  assert.doesNotMatch(rulesOf(host), /trial/)
})

hostTest('tsnet attach --guard guards what is attached, and inspect says so', (host) => {
  host.container('web')
  host.exec([TSNET, 'attach', 'web', '--guard'])
  assert.match(table(host), /comment "tsnet\/web:eth0"/)
  assert.match(host.exec([TSNET, 'inspect', 'web']), /guarded/)
  host.exec([TSNET, 'detach', 'web'])
  assertNothingLeft(host)
})
