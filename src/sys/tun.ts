/** TAP interfaces: made by the character device, not by netlink. @see Documentation/networking/tuntap.rst, include/uapi/linux/if_tun.h */
import { closeSync } from 'node:fs'
import { allocate, checked, errno, type FixedMemory, kernelError, libc } from './libc.ts'

const DEVICE = '/dev/net/tun'
const O_RDWR = 2
const O_CLOEXEC = 0o2000000
const TUNSETIFF = 0x400454ca
const TUNSETPERSIST = 0x400454cb
const TUNSETOWNER = 0x400454cc
const TUNSETGROUP = 0x400454ce
const IFF_TAP = 0x0002
const IFF_MULTI_QUEUE = 0x0100
const IFF_NO_PI = 0x1000
const IFF_VNET_HDR = 0x4000
const IFF_TUN_EXCL = 0x8000
/** struct ifreq: the name, then the flags. */
const IFREQ_SIZE = 40
const IFNAMSIZ = 16

export interface TapOptions {
  readonly name: string
  /** Who may open it beside root: a user's and a group's number. */
  readonly owner?: number
  readonly group?: number
  /** Whether several file descriptors may share it, a queue each. */
  readonly multiQueue: boolean
}

/** Never given back, hence one for all. */
let request: FixedMemory | undefined

/**
 * Makes a TAP interface that stays, in the network namespace that the thread is in.
 * @throws KernelError EBUSY when the name is taken; ENOENT or ENODEV on opening when the kernel has none
 */
export function createTap({ name, owner, group, multiQueue }: TapOptions): void {
  const fd = openTun()
  try {
    request ??= allocate(IFREQ_SIZE)
    const bytes = Buffer.from(request.bytes.buffer, request.bytes.byteOffset, IFREQ_SIZE).fill(0)
    bytes.write(name.slice(0, IFNAMSIZ - 1), 'latin1')
    bytes.writeUInt16LE(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL | (multiQueue ? IFF_MULTI_QUEUE : 0), IFNAMSIZ)
    const set = (number: number, argument: number, what: string) =>
      checked(libc.ioctl(fd, number, argument), `${what} of the TAP interface "${name}"`)
    set(TUNSETIFF, Number(request.address), 'set name and mode')
    if (owner !== undefined) set(TUNSETOWNER, owner, 'set the owner')
    if (group !== undefined) set(TUNSETGROUP, group, 'set the group')
    // Last: until then it goes with the descriptor, whatever fails.
    set(TUNSETPERSIST, 1, 'keep the life')
  } finally {
    closeSync(fd)
  }
}

/** @throws KernelError ENOENT or ENODEV when the kernel has no TAP interfaces */
export function ensureTunDevice(): void {
  closeSync(openTun())
}

function openTun(): number {
  const fd = libc.open(DEVICE, O_RDWR | O_CLOEXEC, 0)
  if (fd < 0) throw kernelError(`open "${DEVICE}"`, errno())
  return fd
}
