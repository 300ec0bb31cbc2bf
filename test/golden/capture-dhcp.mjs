// Captures what busybox's udhcpc and dnsmasq say to each other, frame by frame, into dhcp.json.
// Run as root: unshare -nm node test/golden/capture-dhcp.mjs
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'

const FILE = new URL('dhcp.json', import.meta.url)
const PCAP = '/tmp/dhcp.pcap'
const SERVER = `dnsmasq -k --conf-file=/dev/null --user=root --port=0 --no-ping --dhcp-authoritative --interface=server --dhcp-leasefile=/dev/null --pid-file=
  --log-facility=/dev/null --dhcp-range=10.9.0.10,10.9.0.10,255.255.255.0,10m --dhcp-option=option:router,10.9.0.1,10.9.0.2 --dhcp-option=option:dns-server,10.9.0.1,9.9.9.9
  --dhcp-option=option:domain-name,lan.example --dhcp-option=option:domain-search,a.example,b.example --dhcp-option=option:mtu,1400
  --dhcp-option=option:static-route,10.20.0.0,10.9.0.3 --dhcp-option=option:classless-static-route,10.7.0.0/16,10.9.0.4,0.0.0.0/0,10.9.0.1,10.8.0.0/24,0.0.0.0`
const CLIENT = 'busybox udhcpc -f -i client -q -s /bin/true -O 33 -O 119 -O 121 -O 26 -x hostname:web -x 61:006332'
const NAMES = ['discover', 'offer', 'request', 'ack']

const sh = (script) => execFileSync('sh', ['-ec', script])
sh(`ip link set lo up
  ip link add server address 02:00:00:00:00:01 type veth peer name client address 02:00:00:00:00:02
  ip addr add 10.9.0.1/24 dev server; ip link set server up; ip link set client up`)
const words = (text) => text.split(/\s+/)
const children = [
  spawn(words(SERVER)[0], words(SERVER).slice(1)),
  spawn('tcpdump', words(`-i client -U -w ${PCAP} --immediate-mode udp port 67`)),
]
await new Promise((resolve) => setTimeout(resolve, 1000))
spawnSync(words(CLIENT)[0], words(CLIENT).slice(1), { stdio: 'inherit' })
await new Promise((resolve) => setTimeout(resolve, 500))
for (const child of children) child.kill()
const captures = framesOf(readFileSync(PCAP)).map((frame, i) => ({ name: NAMES[i], frame: frame.toString('hex') }))
rmSync(PCAP)
const versions = ['dnsmasq --version', 'busybox'].map((command) => execFileSync('sh', ['-c', command], { encoding: 'utf8' }).split('\n')[0])
writeFileSync(FILE, `${JSON.stringify({ about: `captured with ${versions.join(', ')}`, server: words(SERVER).join(' '), client: CLIENT, captures }, undefined, 1)}\n`)

/** @see draft-ietf-opsawg-pcap */
function framesOf(pcap) {
  const frames = []
  for (let at = 24; at < pcap.length; at += 16 + pcap.readUInt32LE(at + 8)) frames.push(pcap.subarray(at + 16, at + 16 + pcap.readUInt32LE(at + 8)))
  return frames
}
