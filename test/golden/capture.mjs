// Captures what `ip` and `conntrack` send to the kernel and what the kernel answers, byte by byte, into rtnetlink.json, bridge-vlan.json and conntrack.json.
// Run as root: unshare -nm node test/golden/capture.mjs [rtnetlink | bridge-vlan | conntrack]
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'

const RTNETLINK = {
  createBridge: 'ip link add name br0 address 02:00:00:00:00:01 mtu 1400 type bridge stp_state 0',
  createVeth: 'ip link add name v0 mtu 1400 master br0 type veth peer name eth0 mtu 1400 address 02:00:00:00:00:02',
  setBridgePort: 'ip link set dev v0 type bridge_slave hairpin on isolated off',
  setUp: 'ip link set dev br0 up',
  setAlias: 'ip link set dev v0 alias web/c1:eth0',
  addAddress4: 'ip addr add 10.210.0.1/22 brd 10.210.3.255 dev br0',
  addAddress6: 'ip -6 addr add fd00::1/64 dev br0 nodad',
  addRoute4: 'ip route add default via 10.210.0.2 dev br0',
  addRoute6: 'ip -6 route add default via fd00::2 dev br0',
  addRouteMetrics: 'ip route add 10.99.0.0/16 via 10.210.0.2 dev br0 mtu 1300 advmss 1200 metric 5 table 1000',
  addRule4: 'ip rule add from 10.210.0.2 lookup 47000003 priority 32000 protocol 116',
  addRule6: 'ip -6 rule add from fd00::2 lookup 47000003 priority 32000 protocol 116',
  addRuleShort: 'ip rule add from 10.210.0.0/22 lookup 100',
  deleteRule4: 'ip rule del from 10.210.0.2 lookup 47000003 priority 32000 protocol 116',
  getPort: 'ip -d link show dev v0',
  refused: 'ip link add name br0 type bridge',
  refusedWithText: 'ip route add default via 10.99.99.99 dev br0',
  deleteLink: 'ip link del dev v0',
}

const BRIDGE_VLAN = {
  createBridge: 'ip link add name br0 type bridge',
  createPort: 'ip link add name v0 master br0 type veth peer name v1',
  addNativeVlan: 'bridge vlan add vid 100 dev v0 pvid untagged',
  addTaggedVlan: 'bridge vlan add vid 101 dev v0',
  addVlanRange: 'bridge vlan add vid 200-299 dev v0',
  deleteVlan: 'bridge vlan del vid 1 dev v0',
}

const CONNTRACK = {
  track4: 'conntrack -I -p udp -s 10.99.0.2 -d 10.99.0.1 --sport 40000 --dport 8053 -r 10.50.0.2 -q 10.99.0.2 --reply-port-src 53 --reply-port-dst 40000 -t 60',
  track6: 'conntrack -I -p tcp -s fd00:99::2 -d fd00:99::1 --sport 40000 --dport 8080 -r fd00:50::2 -q fd00:99::2 --reply-port-src 80 --reply-port-dst 40000 -t 60 --state ESTABLISHED',
  getTracked4: 'conntrack -L -f ipv4',
  getTracked6: 'conntrack -L -f ipv6',
  forget4: 'conntrack -D -p udp --dport 8053',
}

const which = process.argv[2]
const wants = (name) => which === undefined || which === name
if (wants('bridge-vlan')) {
  capture('bridge-vlan', BRIDGE_VLAN, ['bridge', '-V'])
  execFileSync('ip', ['link', 'del', 'br0'])
  execFileSync('ip', ['link', 'del', 'v0'])
}
if (wants('rtnetlink')) {
  execFileSync('ip', ['link', 'set', 'lo', 'up'])
  capture('rtnetlink', RTNETLINK, ['ip', '-V'])
}
if (wants('conntrack')) capture('conntrack', CONNTRACK, ['conntrack', '-V'])

function capture(file, commands, [program, version]) {
  const captures = Object.entries(commands).map(([name, command]) => {
    const log = `/tmp/golden.${process.pid}`
    spawnSync('strace', ['-e', 'trace=sendmsg,sendto,recvmsg', '-e', 'read=3,4', '-e', 'write=3,4', '-o', log, ...command.split(' ')])
    const { requests, answers } = parse(readFileSync(log, 'utf8'))
    rmSync(log)
    const answer = name.startsWith('get') ? answers.reduce((a, b) => (b.length > a.length ? b : a)) : answers.at(-1)
    return { name, command, request: requests.at(-1), answer }
  })
  const told = (name, ...args) => execFileSync(name, args, { encoding: 'utf8' }).trim()
  const about = `captured with ${told(program, version)}, Linux ${told('uname', '-r')}`
  writeFileSync(`test/golden/${file}.json`, `${JSON.stringify({ about, captures }, undefined, 1)}\n`)
}

/** Gathers the hex dumps that strace prints after each call. */
function parse(text) {
  const requests = []
  const answers = []
  let list = answers
  for (const line of text.split('\n')) {
    if (/^send(msg|to)\(/.test(line)) list = requests
    // Of what has but one buffer, strace does not say where it begins.
    if (line.startsWith('sendto(')) list.push('')
    if (line.startsWith('recvmsg(')) list = line.includes('MSG_PEEK') ? [] : answers
    else if (/^ \* \d+ bytes in buffer 0/.test(line)) list.push('')
    else if (line.startsWith(' | ')) list[list.length - 1] += line.slice(10, 59).replaceAll(' ', '')
  }
  return { requests, answers }
}
