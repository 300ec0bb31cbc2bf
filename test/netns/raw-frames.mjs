// Sends frames as they are, from inside a network namespace: raw-frames.mjs <interface> <hex>…
import koffi from 'koffi'

const AF_PACKET = 17
const SOCK_RAW = 3
const libc = koffi.load(null)
const socket = libc.func('int socket(int domain, int type, int protocol)')
const bind = libc.func('int bind(int fd, const uint8_t *address, unsigned int length)')
const send = libc.func('intptr_t send(int fd, const uint8_t *data, size_t length, int flags)')
const indexOf = libc.func('unsigned int if_nametoindex(const char *name)')

const [ifname, ...frames] = process.argv.slice(2)
const fd = socket(AF_PACKET, SOCK_RAW, 0)
// struct sockaddr_ll
const address = Buffer.alloc(20)
address.writeUInt16LE(AF_PACKET)
address.writeUInt32LE(indexOf(ifname), 4)
if (fd < 0 || bind(fd, address, address.length) < 0) throw new Error(`Cannot open a packet socket on ${ifname}: errno ${koffi.errno()}`)
for (const frame of frames.map((hex) => Buffer.from(hex, 'hex'))) {
  if (Number(send(fd, frame, frame.length, 0)) !== frame.length) throw new Error(`Cannot send a frame: errno ${koffi.errno()}`)
}
